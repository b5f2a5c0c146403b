"""Sums over batches for each parameter element, saved in a file so that an interrupted computation
resumes."""

from __future__ import annotations

import hashlib
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunelit.durable import is_whole, replacing
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.preserve import preserved, random_state
from prunelit.request import PruningWarning

SAVE_EVERY = 30.0
"""Seconds between two saves."""


class Partial:
    """Sums over batches of one float64 number per parameter element, and their progress.

    Args:
        parameters: whose elements are numbered.
        file: the file for saving; None: no saving. An existing file is loaded.
    """

    def __init__(self, parameters: Parameters, file: Path | None = None) -> None:
        self.file, self.saved = file, time.monotonic()
        self.num_batches = 0  # finished ones
        self.total = _flat(parameters, 0.0)
        self.current = _flat(parameters, torch.nan)  # of the current batch; NaN is missing
        self._changed = False
        state = None if file is None else _read(file, self.total)
        if state is not None:
            self.num_batches, self.total, self.current = state["batches"], state["total"], state["current"]

    def missing(self, name: str) -> Tensor:
        """Return the flat indices that the current batch still lacks."""
        return self.current[name].isnan().nonzero()[:, 0]

    def put(self, name: str, indices: Tensor, values: Tensor) -> None:
        """Record numbers of the current batch, and save them from time to time."""
        self.current[name][indices.cpu()] = values
        self._changed = True
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def finish_batch(self, weight: float) -> None:
        """Add the batch's numbers times ``weight``, and start the next."""
        total = {name: self.total[name] + weight * values for name, values in self.current.items()}
        current = {name: torch.full_like(values, torch.nan) for name, values in self.current.items()}
        # All at once: a signal that ends the run here must not save a batch that is counted by half.
        self.total, self.current, self.num_batches = total, current, self.num_batches + 1

    def save(self) -> None:
        """Write the file in one step, if there is something new; warn if it cannot be written."""
        self.saved = time.monotonic()
        if self.file is None or not self._changed:
            return
        state = {"batches": self.num_batches, "total": self.total, "current": self.current}
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.file) as file:
                torch.save(state, file)
            self._changed = False
        except OSError as error:
            why = f"scores are not saved in {self.file.parent}: {error.strerror or error}"
            warnings.warn(why, PruningWarning, stacklevel=2)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save at the end of the block, also if it is left by an error or an interruption."""
        try:
            yield
        finally:
            self.save()


def _read(file: Path, total: Mapping[str, Tensor]) -> dict[str, Any] | None:
    """Return the contents of the file; None if it is missing or damaged, or its sums are unlike ``total``."""
    if not is_whole(file):
        return None
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
        sizes = {name: len(tensor) for name, tensor in total.items()}
        for kind in ("total", "current"):
            if {name: len(tensor) for name, tensor in state[kind].items()} != sizes:
                return None
        int(state["batches"])
    except Exception:  # of any kind, as the file may hold anything
        return None
    return state


def fingerprint(network: nn.Module, parameters: Parameters, objective: Objective, samples: int) -> str:
    """Return a digest of all that scores depend on.

    That is weights, buffers, modes, options of modules, what is prunable, the batches and the number of
    samples on all processes. The loss of each batch stands for the code of the network and of the loss.
    """
    sha = hashlib.sha256()
    tensors: Mapping[str, Any] = dict(network.named_parameters()) | dict(network.named_buffers())
    modules = [(name, type(m).__name__, m.training, _options(m)) for name, m in network.named_modules()]
    printed = re.sub(r" at 0x[0-9a-f]+", "", repr(network))
    known = (torch.__version__, version("prunelit"), samples, printed, modules, *parameters, *tensors)
    sha.update(repr(known).encode())
    with preserved(network), random_state(0):
        for batch in objective.batches:
            sha.update(f"{float(objective.loss(batch).detach()):.5g}".encode())
    for tensor in (*tensors.values(), *tree_leaves(objective.batches)):
        if isinstance(tensor, Tensor):
            sha.update(repr((tensor.dtype, tensor.shape)).encode())
            sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _options(module: nn.Module) -> list[tuple[str, Any]]:
    """Return the public attributes of a module that are numbers, texts or tuples of these."""
    plain = (bool, int, float, complex, str, bytes, type(None))

    def is_plain(value: Any) -> bool:
        return all(map(is_plain, value)) if isinstance(value, (tuple, list)) else isinstance(value, plain)

    found = sorted(vars(module).items())
    return [(key, value) for key, value in found if not key.startswith("_") and is_plain(value)]


def _flat(parameters: Parameters, value: float) -> dict[str, Tensor]:
    return {name: torch.full((p.numel(),), value, dtype=torch.float64) for name, p in parameters.items()}
