"""Run training steps for scores alone, and leave no trace of them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import MethodType
from typing import Any

import lightning.pytorch as pl
from torch import nn
from torchmetrics import Metric

from prunelit.pruning.preserve import modes, random_state


@contextmanager
def undisturbed(pl_module: pl.LightningModule, root: nn.Module) -> Iterator[None]:
    """Let training steps run for scores alone: nothing is logged, counted or kept.

    Restores torchmetrics states, the random state, and modes and buffers outside ``root``, the
    part that is pruned; ``prune`` itself looks after ``root``.
    """
    metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
    states: list[tuple[Metric, dict[str, Any], int, Any]] = [
        (m, copy.deepcopy(dict(m.metric_state)), m._update_count, m._computed) for m in metrics
    ]
    inside = {id(buffer) for buffer in root.buffers()}
    buffers = [(b, b.clone()) for b in pl_module.buffers() if id(b) not in inside]
    with (
        _batch_norm_alone(pl_module),
        _shadowed(pl_module, "log", "log_dict", "forward"),
        _shadowed(root, "forward"),
        modes(pl_module),
    ):
        pl_module.__dict__.update(log=_nothing, log_dict=_nothing)
        try:
            with random_state(0):
                yield
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)
            for metric, state, count, computed in states:
                for key, value in state.items():
                    setattr(metric, key, value)
                metric._update_count, metric._computed = count, computed


@contextmanager
def _batch_norm_alone(module: nn.Module) -> Iterator[None]:
    """Let SyncBatchNorm normalise each batch by itself: other ranks may have none at the same time."""
    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, nn.SyncBatchNorm):
                stack.enter_context(_shadowed(part, "forward"))
                part.__dict__["forward"] = MethodType(nn.BatchNorm2d.forward, part)
        yield


@contextmanager
def _shadowed(module: nn.Module, *names: str) -> Iterator[None]:
    """Let instance attributes stand before methods inside the block; take them away after it."""
    before = {name: module.__dict__[name] for name in names if name in module.__dict__}
    try:
        yield
    finally:
        for name in names:
            module.__dict__.pop(name, None)
        module.__dict__.update(before)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
