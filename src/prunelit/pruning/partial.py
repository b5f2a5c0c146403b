"""Sums over batches for each parameter element, saved in a file so that an interrupted computation
resumes."""

from __future__ import annotations

import hashlib
import pickle
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from prunelit.durable import replacing
from prunelit.pruning.objective import Batch
from prunelit.pruning.parameters import Parameters

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
        state = None if file is None else _read(file)
        if state is not None:
            self.num_batches, self.total, self.current = state["batches"], state["total"], state["current"]

    def missing(self, name: str) -> Tensor:
        """Return the flat indices that the current batch still lacks."""
        return self.current[name].isnan().nonzero()[:, 0]

    def put(self, name: str, indices: Tensor, values: Tensor) -> None:
        """Record numbers of the current batch, and save them from time to time."""
        self.current[name][indices.cpu()] = values
        if time.monotonic() - self.saved > SAVE_EVERY:
            self.save()

    def finish_batch(self, weight: float) -> None:
        """Add the batch's numbers times ``weight``, and start the next."""
        total = {name: self.total[name] + weight * values for name, values in self.current.items()}
        current = {name: torch.full_like(values, torch.nan) for name, values in self.current.items()}
        # All at once: a signal that ends the run here must not save a batch that is counted by half.
        self.total, self.current, self.num_batches = total, current, self.num_batches + 1

    def save(self) -> None:
        """Write the file in one step."""
        self.saved = time.monotonic()
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            state = {"batches": self.num_batches, "total": self.total, "current": self.current}
            with replacing(self.file) as file:
                torch.save(state, file)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Save at the end of the block, also if it is left by an error or an interruption."""
        try:
            yield
        finally:
            self.save()


def _read(file: Path) -> dict[str, Any] | None:
    """Return the contents of the file; None if it is missing or damaged."""
    try:
        state: dict[str, Any] = torch.load(file, weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        return None
    return state


def fingerprint(network: nn.Module, parameters: Parameters, batches: Sequence[Batch]) -> str:
    """Return a digest of all that scores depend on: weights, buffers, modes, what is prunable, batches."""
    sha = hashlib.sha256()
    tensors: Mapping[str, Any] = dict(network.named_parameters()) | dict(network.named_buffers())
    modes = [(name, type(module).__name__, module.training) for name, module in network.named_modules()]
    sha.update(repr((torch.__version__, modes, list(parameters), list(tensors))).encode())
    for tensor in (*tensors.values(), *tree_leaves(batches)):
        if isinstance(tensor, Tensor):
            sha.update(repr((tensor.dtype, tensor.shape)).encode())
            sha.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def _flat(parameters: Parameters, value: float) -> dict[str, Tensor]:
    return {name: torch.full((p.numel(),), value, dtype=torch.float64) for name, p in parameters.items()}
