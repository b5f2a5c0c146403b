"""The callback that measures a run: it passes the events of a fit to the objects that measure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback

from prunelit.training.callback import Pruning
from prunelit.training.measuring.around_prunings import AroundPrunings
from prunelit.training.measuring.best_effort import BestEffort
from prunelit.training.measuring.epochs import Epochs, Row
from prunelit.training.measuring.logged import log_earlier_epochs, log_epoch
from prunelit.training.measuring.tensorboard import TensorBoard
from prunelit.training.measuring.threshold_scan import ThresholdScan
from prunelit.training.module import Classifier


class Measurements(Callback):
    """Measures the epochs of a run and the network around each pruning.

    ``epochs_changed`` is called with all rows of ``metrics.csv`` so far after every epoch. Everything is part
    of checkpoints, so that a resumed run has the complete record.

    Attributes:
        epochs: the epochs, and the clock.
        prunings: the network just before and after each pruning.
        scan: the results of a list of thresholds.
        attempt: calls functions whose result may be missing in the record.
    """

    state_key = "prunelit.Measurements"

    def __init__(self, pruning: Pruning | None, epochs_changed: Callable[[list[Row]], None]) -> None:
        self.epochs_changed = epochs_changed
        self.attempt = BestEffort()
        self.epochs = Epochs(pruning)
        self.prunings = AroundPrunings(self.attempt)
        self.scan = ThresholdScan()
        self._at_prunings = (self.prunings, self.scan, TensorBoard(self.attempt))
        self._with_state = (self.epochs, self.prunings, self.scan)

    def state_dict(self) -> dict[str, Any]:
        """Return all measurements so far, and the seconds of the epoch."""
        return {name: value for part in self._with_state for name, value in part.state_dict().items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of a checkpoint."""
        for part in self._with_state:
            part.load_state_dict(state_dict)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the clock of an interrupted epoch, and the loggers."""
        self.attempt("earlier epochs in a logger", lambda: log_earlier_epochs(trainer, self.epochs.rows))
        self.epochs.clock.resume()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, which does not include pruning."""
        self.epochs.start(trainer)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock during an evaluation."""
        self.epochs.clock.pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the clock, and record the density that was evaluated."""
        self.epochs.clock.unpause()
        self.epochs.note_evaluated_density()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and send it to the loggers."""
        assert isinstance(pl_module, Classifier)
        row = self.epochs.add(trainer, pl_module)
        self.prunings.add_epoch(row)
        if trainer.is_global_zero:
            self.epochs_changed(self.epochs.rows)
        self.attempt("epochs in a logger", lambda: log_epoch(trainer, row))

    def on_before_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Measure the network before a pruning."""
        self.epochs.clock.pause()
        for part in self._at_prunings:
            part.before(trainer, pl_module, pruning, len(self.epochs.rows))

    def on_after_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Measure the network after a pruning; earlier evaluations belong to other masks."""
        assert isinstance(pl_module, Classifier)
        pl_module.evaluated = {}
        trainer.callback_metrics.clear()
        for part in self._at_prunings:
            part.after(trainer, pl_module, pruning, len(self.epochs.rows))
        self.epochs.note_learning_rate(trainer)
        if not (pruning.retraining.repair or pruning.retraining.recalibrate):
            self.epochs.clock.unpause()

    def on_after_repair(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Record the accuracy with repaired layers."""
        self.prunings.after_recovery(trainer, pl_module, "top1_repaired")
        if not pruning.retraining.recalibrate:
            self.epochs.clock.unpause()

    def on_after_recalibration(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning
    ) -> None:
        """Record the accuracy with recalibrated statistics of BatchNorm."""
        self.prunings.after_recovery(trainer, pl_module, "top1_recalibrated")
        self.epochs.clock.unpause()

    def best_top1(self, density: float) -> float | None:
        """Return the best test accuracy in percent since the last pruning over epochs at ``density``, or
        None."""
        return self.epochs.best_top1(density, self.prunings.last_epoch)
