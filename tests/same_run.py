"""Compare a run that prunes nothing with the run without the callback: all must be equal, bit for bit."""

from __future__ import annotations

import hashlib
import random
import types
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from queue import Queue
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from prunelit import SNIP, Pruning
from prunelit.pruning.criteria import Criterion
from prunelit.training.restoring.replayed_iterators import Replayed

LEFT_OUT = ("_trainer", "_fabric", "_prunelit", "_jit_override", "_version", "_compiled_call")
"""Attributes that refer to the trainer, or that pruning itself writes."""


def assert_same_run(
    make: Callable[[], tuple[pl.LightningModule, Any]],
    criterion: Criterion | None = None,
    network: str = "",
    pruning: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Train what ``make`` returns with and without pruning at ``compression=0``, and compare both runs.

    Args:
        make: returns a new module and its training data: a loader, several, or a data module.
        criterion: gives the scores; SNIP by default.
        network: the part that is pruned.
        pruning: further options of ``Pruning``.
        options: of the Trainer.
    """
    found = record_run(
        make, Pruning(criterion or SNIP(), compression=0.0, network=network, **pruning or {}), **options
    )
    wanted = record_run(make, **options)
    assert_equal_runs(found, wanted)


def assert_equal_runs(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compare what :func:`record_run` gave with pruning to what it gave without."""
    assert wanted["steps"], "the run without pruning did no step"
    for key, value in wanted.items():
        assert found[key] == value, f"pruning changed {key}: {_difference(value, found[key])}"


def record_run(
    make: Callable[[], tuple[pl.LightningModule, Any]], *callbacks: pl.Callback, **options: Any
) -> dict[str, Any]:
    """Return everything that one run did, as values that ``==`` compares."""
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    module, data = make()
    recorder = _Recorder()
    defaults = {"max_epochs": 2, "accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    trainer = pl.Trainer(callbacks=[*callbacks, recorder], **(defaults | quiet | options))
    random.seed(7), np.random.seed(7), torch.manual_seed(7)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit(module, datamodule=data) if isinstance(data, pl.LightningDataModule) else trainer.fit(
            module, data
        )
    return {
        "steps": recorder.steps,
        "number of steps": trainer.global_step,
        "logged": plain(trainer.callback_metrics),
        "optimizers": [plain(optimizer.state_dict()) for optimizer in trainer.optimizers],
        "module": plain(module),
        "data": plain(data),
        "random state": _random_states(),
    }


class _Recorder(pl.Callback):
    """Notes each batch with the random state before it, and what the step returned and logged."""

    def __init__(self) -> None:
        self.steps: list[Any] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.steps.append([trainer.current_epoch, batch_idx, plain(batch), _random_states()])

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps[-1] += [plain(outputs), plain(trainer.logged_metrics)]


def _random_states() -> list[Any]:
    return [plain(torch.get_rng_state()), plain(np.random.get_state()), random.getstate()]


def plain(value: Any, seen: dict[int, tuple[int, Any]] | None = None) -> Any:
    """Return ``value`` as a tree that ``==`` compares: tensors by their bits, objects by their attributes."""
    seen = {} if seen is None else seen
    if value is None or isinstance(value, (str, bytes, bool, int, float, complex, torch.dtype, torch.device)):
        return value if value == value else "nan"
    value = value.source if isinstance(value, Replayed) else value
    if id(value) in seen:
        return f"the object number {seen[id(value)][0]}"
    if isinstance(value, Tensor):
        gradient = plain(value.grad) if value.is_leaf else None
        bits = value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes()
        digest = hashlib.sha256(bits).hexdigest()[:16]
        return ("tensor", tuple(value.shape), str(value.dtype), value.requires_grad, digest, gradient)
    if isinstance(value, np.ndarray):
        return ("array", value.shape, str(value.dtype), hashlib.sha256(value.tobytes()).hexdigest()[:16])
    if isinstance(value, torch.Generator):
        return ("generator", plain(value.get_state()))
    if isinstance(value, random.Random):
        return ("random", value.getstate())
    if isinstance(value, np.random.Generator):
        return ("random", repr(value.bit_generator.state))
    # After the immutable ones: their identities say nothing. Held, so that no later object has its identity.
    seen[id(value)] = (len(seen), value)
    return _plain_container(value, seen)


def _plain_container(value: Any, seen: dict[int, tuple[int, Any]]) -> Any:
    if isinstance(value, Mapping):
        if isinstance(value, OrderedDict) and all(isinstance(k, int) for k in value):
            return ("hooks", [plain(v, seen) for v in value.values()])  # keys count the hooks of the process
        items = [
            (plain(k, seen), plain(v, seen)) for k, v in value.items() if not str(k).startswith(LEFT_OUT)
        ]
        return (type(value).__name__, items)
    if isinstance(value, (list, tuple, deque)):
        return (type(value).__name__, [plain(item, seen) for item in value])
    if isinstance(value, (set, frozenset)):
        return (type(value).__name__, sorted(map(repr, value)))
    if isinstance(value, Queue):
        return ("queue", [plain(item, seen) for item in value.queue])
    if isinstance(value, types.MethodType):
        return ("method", value.__func__.__qualname__, plain(value.__self__, seen))
    if isinstance(value, types.FunctionType):
        cells = [cell.cell_contents for cell in value.__closure__ or ()]
        return ("function", value.__qualname__, [plain(cell, seen) for cell in cells])
    if isinstance(value, (pl.Trainer, type, types.ModuleType)) or not hasattr(value, "__dict__"):
        return type(value).__name__
    attributes = {
        k: v for k, v in vars(value).items() if not (isinstance(value, DataLoader) and k == "_iterator")
    }
    kind = "module" if isinstance(value, nn.Module) else "data" if isinstance(value, Dataset) else "object"
    return (kind, type(value).__name__, plain(attributes, seen))


def _difference(wanted: Any, found: Any, place: str = "") -> str:
    """Say where two trees differ first."""
    both = isinstance(wanted, (list, tuple)) and isinstance(found, (list, tuple))
    if both and len(wanted) == len(found):
        for number, pair in enumerate(zip(wanted, found, strict=True)):
            if pair[0] != pair[1]:
                name = wanted[0] if isinstance(wanted[0], str) and number else number
                return _difference(*pair, f"{place}/{name}")
    return f"at {place}: without pruning {str(wanted)[:300]}, with pruning {str(found)[:300]}"
