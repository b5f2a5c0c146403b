"""Run training steps for scoring without side effects."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType
from typing import Any

import lightning.pytorch as pl
from torch import Tensor, nn

from prunelit.pruning.preserve import random_state
from prunelit.training.restoring.object_state import ObjectState


@contextmanager
def undisturbed(trainer: pl.Trainer, pl_module: pl.LightningModule, root: nn.Module) -> Iterator[None]:
    """Let training steps run for scoring only: nothing is logged, counted, updated or kept.

    Inside the block optimizers and schedulers do nothing. After it the random state, the module and all that
    it refers to, its training data and its optimizers are as before. Parameters and buffers of ``root``, the
    part that is pruned, are left to ``prune``, which restores them itself.
    """
    loader = trainer.fit_loop._combined_loader
    schedulers = [config.scheduler for config in trainer.lr_scheduler_configs]
    roots = [pl_module, getattr(trainer, "datamodule", None), loader, *trainer.optimizers, *schedulers]
    state = ObjectState(roots, [*root.parameters(), *root.buffers()])
    loggers, stops = trainer.loggers, trainer.should_stop
    try:
        _silence(pl_module)
        for each in (*trainer.optimizers, *schedulers):
            each.__dict__["step"] = _closure_alone
        trainer.strategy.__dict__["optimizer_step"] = lambda optimizer, closure, **_: _closure_alone(closure)
        trainer.loggers = [Silent(logger) for logger in loggers]  # type: ignore[misc]
        with random_state(0):
            yield
    finally:
        trainer.loggers, trainer.should_stop = loggers, stops
        trainer.strategy.__dict__.pop("optimizer_step", None)
        state.put_back()


def _silence(pl_module: pl.LightningModule) -> None:
    """Replace methods of the module by ones without external effects, until its state is restored."""
    for part in pl_module.modules():
        if hasattr(part, "log_dict") and hasattr(part, "training_step"):
            part.__dict__.update(log=_nothing, log_dict=_nothing, print=_nothing, manual_backward=_backward)
        if isinstance(part, nn.SyncBatchNorm):
            # Other ranks may have no batch at the same time: each batch is normalised by itself.
            part.__dict__["forward"] = MethodType(nn.BatchNorm2d.forward, part)


class Silent:
    """Replaces a logger or its experiment and writes nothing."""

    def __init__(self, logger: Any) -> None:
        self._logger = logger

    # A step may check the class of its logger.
    __class__ = property(lambda self: self._logger.__class__)
    experiment = property(lambda self: _Nothing())

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._logger, name)
        return _nothing if callable(found) else found


class _Nothing:
    """Has every attribute, accepts every call and does nothing; it is empty."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self

    def __len__(self) -> int:
        return 0

    def __iter__(self) -> Iterator[Any]:
        return iter(())


def _closure_alone(closure: Callable[[], Any] | None = None, *args: Any, **kwargs: Any) -> Any:
    return closure() if callable(closure) else None


def _backward(loss: Tensor, *args: Any, **kwargs: Any) -> None:
    loss.backward(*args, **kwargs)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
