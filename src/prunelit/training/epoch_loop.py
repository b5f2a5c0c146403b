"""The training loop of a run: between two batches that Lightning trains on, it trains on several itself.

Lightning calls hooks, counts and looks for a due evaluation around each batch. For a small network this takes
longer than the computation. A batch that this loop trains on itself runs the same operations in the same
order, so that the weights are the same bit for bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer import call

from prunelit.training.callback import Pruning
from prunelit.training.checkpoints.last_checkpoint import LastCheckpoint
from prunelit.training.module import Classifier

SECONDS = 0.25
"""Time after which Lightning trains on a batch again, so that the progress bar moves and signals are seen."""
BATCH_HOOKS = (
    *("on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward"),
    *("on_before_optimizer_step", "on_train_batch_end"),
)
Images = tuple[Any, Any]


class EpochLoop(_TrainingEpochLoop):
    """Lets Lightning train on the first and the last batch of an epoch, and on one every ``SECONDS``.

    Hooks at the start of a batch run for these batches only, and hooks at its end also for the last batch
    before them, after which a checkpoint may be saved. A callback from elsewhere that has such hooks makes
    Lightning train on all batches, and so does everything else that :func:`why_step_by_step` names.
    """

    def __init__(self, trainer: pl.Trainer) -> None:
        present = trainer.fit_loop.epoch_loop
        super().__init__(trainer, min_steps=present.min_steps, max_steps=present.max_steps)

    def advance(self, data_fetcher: Any) -> None:
        """Train on the next batch, and on those that follow within ``SECONDS``."""
        super().advance(data_fetcher)
        if self._may_go_on() and not why_step_by_step(self.trainer):
            self._train(data_fetcher)

    def _train(self, data_fetcher: Any) -> None:
        """Train on batches until Lightning has to train on the next one."""
        end, done, trainer = time.monotonic() + SECONDS, 0, self.trainer
        train = self._step()
        savers = [c for c in trainer.callbacks if isinstance(c, LastCheckpoint)]  # type: ignore[attr-defined]
        try:
            while self._may_go_on(done):
                batch, number = fetch(self, data_fetcher), self.batch_idx + done + 1
                train(batch, number)
                done += 1
                if time.monotonic() >= end or any(saver.is_due for saver in savers):
                    break
        finally:
            count(self, done, done)
        if done:
            # Checkpoints state, as Lightning's do, that their batch is processed and not yet completed.
            self.batch_progress.total.completed -= 1
            self.batch_progress.current.completed -= 1
            call._call_callback_hooks(trainer, "on_train_batch_end", {}, batch, number)
            self.batch_progress.increment_completed()

    def _may_go_on(self, done: int = 0) -> bool:
        """Whether the next batch exists and is not the last one of the epoch."""
        if self.trainer.should_stop or self.trainer.received_sigterm:
            return False
        return self.batch_progress.current.ready + done + 1 < self.trainer.num_training_batches

    def _step(self) -> Callable[[Images, int], None]:
        """Return a function that trains on a batch with this number in the epoch."""
        trainer: Any = self.trainer
        module, optimizer = trainer.lightning_module, trainer.optimizers[0]
        context = trainer.precision_plugin.train_step_context
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        before_step = [c.on_before_optimizer_step for c in trainer.callbacks if isinstance(c, Pruning)]

        def train(batch: Images, number: int) -> None:
            with context():
                loss = module.training_step(batch, number)
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            for hook in before_step:
                hook(trainer, module, optimizer)
            optimizer.step()

        return train


def fetch(loop: _TrainingEpochLoop, data_fetcher: Any) -> Images:
    """Return the next batch, on the device of the training."""
    trainer: Any = loop.trainer
    batch, _, _ = next(data_fetcher)
    loop.batch_progress.is_last_batch = data_fetcher.done
    if all(part.device == trainer.strategy.root_device for part in batch):
        return batch
    batch = trainer.precision_plugin.convert_input(batch)
    batch = trainer.lightning_module._on_before_batch_transfer(batch, dataloader_idx=0)
    moved: Images = call._call_strategy_hook(trainer, "batch_to_device", batch, dataloader_idx=0)
    return moved


def count(loop: _TrainingEpochLoop, batches: int, steps: int) -> None:
    """Count ``batches`` that Lightning did not train on, and ``steps`` of the optimizer."""
    loop.batch_progress.increment_by(batches, is_last_batch=loop.batch_progress.is_last_batch)
    progress = loop.automatic_optimization.optim_progress.optimizer
    progress.step.increment_by(steps)
    progress.zero_grad.increment_by(steps)
    loop._batches_that_stepped += batches


def why_step_by_step(trainer: Any) -> str:
    """Return why Lightning must train on each batch; empty if it need not."""
    precise, kind = trainer.precision in ("32-true", "bf16-mixed"), type(trainer.optimizers[0])
    checks = {
        "there are several devices": trainer.world_size > 1,
        f"the strategy is a {type(trainer.strategy).__name__}": not isinstance(
            trainer.strategy, SingleDeviceStrategy
        ),
        f"the optimizer is a {kind.__name__}": kind is torch.optim.LBFGS
        or not kind.__module__.startswith("torch.optim."),
        f"trainer.precision is {trainer.precision}": not precise,
        "gradients are clipped": bool(trainer.gradient_clip_val),
        "gradients are accumulated over several batches": trainer.accumulate_grad_batches != 1,
        "trainer.max_steps is set": trainer.max_steps != -1,
        "there are evaluations within epochs": trainer.val_check_batch != trainer.num_training_batches,
        "a profiler measures each step": not isinstance(trainer.profiler, PassThroughProfiler),
        "anomalies are detected": trainer._detect_anomaly,
        "the module is not prunelit's": type(trainer.lightning_module) is not Classifier,
        "the schedule of the learning rate counts steps": any(
            config.interval != "epoch" for config in trainer.lr_scheduler_configs
        ),
    }
    found = (why for why, holds in checks.items() if holds)
    return next(found, "") or next(filter(None, map(_why_each_batch, trainer.callbacks)), "")


def _why_each_batch(callback: Callback) -> str:
    """Return why hooks of ``callback`` must run for each batch; empty if they need not."""
    if isinstance(callback, Pruning) and callback.moment.within_epochs and not callback.done:
        return "pruning takes place within epochs"
    if type(callback).__module__.startswith("prunelit.") or isinstance(callback, ProgressBar):
        return ""
    for name in BATCH_HOOKS:
        if getattr(type(callback), name, None) not in (None, getattr(Callback, name)):
            return f"there is a callback of the class {type(callback).__qualname__}"
    return ""
