"""Reset everything that monitors a metric at each pruning.

A best value, and the checkpoint that has it, belong to the density at which they were measured. So at each
pruning ``ModelCheckpoint``, ``EarlyStopping`` and ``ReduceLROnPlateau`` are reset, and values from before the
pruning are ignored.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from prunelit.training.lightning_classes import is_lightning

BROKEN = ("NON_FINITE_METRIC", "DIVERGENCE_THRESHOLD")
"""The reasons of ``EarlyStopping`` to end a training that has failed."""


class Monitors:
    """Controls the callbacks and schedules of a trainer that monitor a metric.

    Until the last pruning ``EarlyStopping`` does not end the training, unless the metric is not finite or
    diverges. A metric from before the last pruning is used neither by ``EarlyStopping`` nor for the best
    checkpoints of ``ModelCheckpoint``, because with rare validation it would be that of a denser network.
    """

    def __init__(self) -> None:
        self._outdated: dict[str, Any] = {}
        self._waiting: list[Any] = []  # schedules whose metric is from before the pruning
        self._replaced: list[tuple[Any, str]] = []

    def attach(self, trainer: pl.Trainer, pruning_is_to_come: Callable[[], bool]) -> None:
        """Replace the methods by which the trainer's callbacks decide, until :meth:`release`."""
        self.release()
        self._outdated = {}
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if is_lightning(callback, "EarlyStopping"):
                for hook in ("on_train_epoch_end", "on_validation_end"):
                    check = partial(
                        self._check_stopping, callback, getattr(callback, hook), pruning_is_to_come
                    )
                    self._replace(callback, hook, check)
            elif is_lightning(callback, "ModelCheckpoint") and callback.monitor is not None:
                choose = partial(self._check_top_k, callback, callback.check_monitor_top_k)
                self._replace(callback, "check_monitor_top_k", choose)

    def release(self) -> None:
        """Restore the methods of the callbacks."""
        for callback, name in self._replaced:
            callback.__dict__.pop(name, None)
        self._replaced = []

    def forget(self, trainer: pl.Trainer) -> None:
        """Reset everything that monitors a metric, after a pruning."""
        self._outdated = dict(trainer.callback_metrics)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if is_lightning(callback, "ModelCheckpoint") and callback.monitor is not None:
                forget_best_checkpoints(callback)
            elif is_lightning(callback, "EarlyStopping"):
                forget_best_score(callback)
        self._waiting = plateaus(trainer)
        for config in self._waiting:
            forget_plateau(config.scheduler)

    def metrics_changed(self, trainer: pl.Trainer) -> None:
        """Let a schedule start with the first value that was measured after the pruning."""
        fresh = [config for config in self._waiting if not self._is_outdated(trainer, config.monitor)]
        for config in fresh:
            forget_plateau(config.scheduler)
        self._waiting = [config for config in self._waiting if config not in fresh]

    def _replace(self, callback: Any, name: str, method: Callable[..., Any]) -> None:
        callback.__dict__[name] = method
        self._replaced.append((callback, name))

    def _is_outdated(self, trainer: pl.Trainer, metric: str | None) -> bool:
        # A metric that is measured again is another tensor.
        return metric in self._outdated and trainer.callback_metrics.get(metric) is self._outdated[metric]

    def _check_stopping(
        self,
        stopping: Any,
        hook: Callable[..., None],
        pruning_is_to_come: Callable[[], bool],
        trainer: pl.Trainer,
        *args: Any,
    ) -> None:
        if self._is_outdated(trainer, stopping.monitor):
            return
        if not pruning_is_to_come():
            hook(trainer, *args)
            return
        should_stop, verbose, stopping.verbose = trainer.should_stop, stopping.verbose, False
        hook(trainer, *args)
        stopping.verbose = verbose
        reason = getattr(stopping, "stopping_reason", None)
        if getattr(reason, "name", "") not in BROKEN:
            trainer.should_stop = should_stop
            forget_stop(stopping)

    def _check_top_k(
        self, checkpoint: Any, own: Callable[..., bool], trainer: pl.Trainer, *args: Any
    ) -> bool:
        return not self._is_outdated(trainer, checkpoint.monitor) and own(trainer, *args)


def forget_best_checkpoints(checkpoint: Any) -> None:
    """Let a ``ModelCheckpoint`` only consider future checkpoints; its files are kept."""
    checkpoint.best_k_models = {}
    checkpoint.best_model_score = checkpoint.current_score = None
    checkpoint.kth_value = torch.tensor(math.inf if checkpoint.mode == "min" else -math.inf)
    checkpoint.best_model_path = checkpoint.kth_best_model_path = ""


def forget_best_score(stopping: Any) -> None:
    """Reset the counter of an ``EarlyStopping``."""
    stopping.wait_count = 0
    stopping.best_score = torch.tensor(math.inf if stopping.mode == "min" else -math.inf)
    forget_stop(stopping)


def forget_stop(stopping: Any) -> None:
    """Revert the stop of an ``EarlyStopping``."""
    stopping.stopped_epoch = 0
    reason = getattr(stopping, "stopping_reason", None)
    if reason is not None:
        stopping.stopping_reason = type(reason).NOT_STOPPED
        stopping.stopping_reason_message = None


def forget_plateau(schedule: ReduceLROnPlateau) -> None:
    """Reset the counter of a ``ReduceLROnPlateau`` but not the learning rate."""
    schedule.best = schedule.mode_worse
    schedule.num_bad_epochs = schedule.cooldown_counter = 0


def plateaus(trainer: pl.Trainer) -> list[Any]:
    """Return Lightning's configurations of the ``ReduceLROnPlateau`` schedules."""
    return [c for c in trainer.lr_scheduler_configs if isinstance(c.scheduler, ReduceLROnPlateau)]


def save_pruned(trainer: pl.Trainer) -> None:
    """Replace the last checkpoints by the network after a pruning that follows the training."""
    for checkpoint in trainer.checkpoint_callbacks:
        if is_lightning(checkpoint, "ModelCheckpoint"):
            latest = {checkpoint.last_model_path}  # type: ignore[attr-defined]
            if checkpoint.monitor is None:  # type: ignore[attr-defined]
                latest.add(checkpoint.best_model_path)  # type: ignore[attr-defined]
            for path in sorted(latest - {""}):
                trainer.save_checkpoint(path, checkpoint.save_weights_only)  # type: ignore[attr-defined]
