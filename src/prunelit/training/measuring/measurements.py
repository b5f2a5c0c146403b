"""Measurements of a run during training: epochs, accuracy around prunings, weights for figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from prunelit.pruning.masks import Masks
from prunelit.pruning.rounds import starting_masks
from prunelit.training.callback import Pruning
from prunelit.training.measuring.best_effort import BestEffort
from prunelit.training.measuring.epoch_clock import EpochClock
from prunelit.training.measuring.evaluation import (
    Values,
    evaluate_masks,
    evaluate_test,
    evaluate_train,
    tensors_of,
)
from prunelit.training.measuring.histograms import histogram
from prunelit.training.measuring.logged import log_earlier_epochs, log_epoch, log_images, log_weights
from prunelit.training.module import Classifier

Row = dict[str, Any]
MEASURED = ("epochs", "rounds", "top1_before", "top1_after", "histograms", "confusions", "thresholds")
"""The state in checkpoints."""


class Measurements(Callback):
    """Collects one row per epoch, the test accuracy around each pruning, and weight histograms.

    ``epochs_changed`` is called with all rows so far after every epoch. Everything is part of checkpoints, so
    that a resumed run has the complete record.

    Attributes:
        epochs: rows of ``metrics.csv``.
        rounds: rows of ``rounds.csv``: one per pruning, with the results of the training after it.
        top1_before: test accuracy in percent just before the last pruning, or None.
        top1_after: the same just after it.
        top1_recalibrated: the same once BatchNorm is recalibrated, or None.
        confusions: just before the last pruning on the test set, ``test_before``, and if it comes after
            training and the images are in memory, on the training set, ``train``.
        thresholds: rows of ``thresholds.csv``: the result of each threshold of a list.
        histograms: by ``before/<parameter>``, ``after/<parameter>`` (kept weights only) and
            ``edges/<parameter>``: counts and bin edges of the prunable parameters.
        attempt: calls functions whose result may be missing in the record.
    """

    state_key = "prunelit.Measurements"

    def __init__(self, pruning: Pruning | None, epochs_changed: Callable[[list[Row]], None]) -> None:
        self.pruning, self.epochs_changed = pruning, epochs_changed
        self.epochs: list[Row] = []
        self.rounds: list[Row] = []
        self.top1_before: float | None = None
        self.top1_after: float | None = None
        self.top1_recalibrated: float | None = None
        self.histograms: dict[str, Tensor] = {}
        self.confusions: dict[str, Tensor] = {}
        self.thresholds: list[Row] = []
        self._values_before: Values = {}
        self._masks_before: Masks = {}
        self._clock, self.attempt = EpochClock(), BestEffort()
        self._learning_rate = float("nan")
        self._density_evaluated: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return all measurements so far, and the seconds of the epoch."""
        clock = {"seconds": self._clock.seconds, "learning_rate": self._learning_rate}
        measured = {name: getattr(self, name) for name in MEASURED}
        more = {"density_evaluated": self._density_evaluated, "top1_recalibrated": self.top1_recalibrated}
        return {**measured, "clock": clock, **more}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of a checkpoint."""
        for name in MEASURED:
            setattr(self, name, state_dict[name])
        self._clock.resume_at(state_dict["clock"]["seconds"])
        self._learning_rate = state_dict["clock"]["learning_rate"]
        self._density_evaluated = state_dict.get("density_evaluated")
        self.top1_recalibrated = state_dict.get("top1_recalibrated")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the clock of an interrupted epoch, and the loggers."""
        self.attempt("earlier epochs in a logger", lambda: log_earlier_epochs(trainer, self.epochs))
        self._clock.resume()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock, which does not include pruning."""
        self._clock.start()
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock during an evaluation."""
        self._clock.pause()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the clock, and record the density that was evaluated."""
        self._clock.go_on()
        self._density_evaluated = self.pruning.current_density if self.pruning else 1.0

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row and send it to the loggers."""
        assert isinstance(pl_module, Classifier)
        row: Row = {
            "epoch": trainer.current_epoch,
            "phase": _phase(self.pruning),
            "learning_rate": self._learning_rate,
        }
        density = self.pruning.current_density if self.pruning else 1.0
        nothing: dict[str, float] = dict.fromkeys(("loss", "top1", "top5"), math.nan)
        measured = {"train": pl_module.train_totals.compute(), "test": nothing}
        if density == self._density_evaluated:  # pruned weights may become nonzero within an epoch
            measured |= pl_module.evaluated
        for split, found in measured.items():
            row |= {f"{split}_{key}": None if math.isnan(v) else v for key, v in found.items()}
        row["density"] = density
        row["seconds"] = self._clock.seconds
        self.epochs.append(row)
        if self.rounds:
            _add_epoch(self.rounds[-1], row)
        if trainer.is_global_zero:
            self.epochs_changed(self.epochs)
        self.attempt("epochs in a logger", lambda: log_epoch(trainer, row))

    def on_before_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Record accuracy and weights before pruning."""
        self._clock.pause()
        self._test_before(trainer, pl_module, pruning)
        self._density_before = pruning.current_density
        parameters = pruning.selection.of(pruning.network(pl_module))
        self.attempt("histograms of weights", lambda: self._count_before(parameters))
        if pruning.thresholds:
            network = pruning.network(pl_module)
            # The whole state, because rewinding, for example, also changes biases and statistics.
            self._values_before = {n: t.detach().clone() for n, t in tensors_of(network).items()}
            self._masks_before = starting_masks(network, parameters)
        epoch = len(self.epochs)
        log = partial(log_weights, trainer, "weights_before_pruning", parameters, epoch)
        self.attempt("TensorBoard's histograms", log)

    def on_after_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Record accuracy and kept weights after pruning; earlier evaluations belong to other masks."""
        assert isinstance(pl_module, Classifier)
        pl_module.evaluated = {}
        trainer.callback_metrics.clear()
        parameters = pruning.selection.of(pruning.network(pl_module))
        kept = {name: p[pruning.masks[name]] for name, p in parameters.items()}
        self.attempt("histograms of weights", lambda: self._count_after(kept))
        epoch = len(self.epochs)
        log = partial(log_weights, trainer, "weights_after_pruning", kept, epoch)
        self.attempt("TensorBoard's histograms", log)
        draw = partial(log_images, trainer, parameters, pruning.masks, epoch)
        self.attempt("TensorBoard's images", draw)
        tested = evaluate_test(trainer, pl_module)
        self.top1_after = tested.top1 if tested else None
        if pruning.thresholds:
            self._try_thresholds(trainer, pl_module, pruning)
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rounds.append(
            {
                "round": len(self.rounds) + 1,
                "epoch": epoch,
                "sparsity_before": 1 - self._density_before,
                "sparsity_after": 1 - pruning.current_density,
                "top1_before": self.top1_before,
                "top1_after": self.top1_after,
            }
        )
        if not pruning.retraining.recalibrate:
            self._clock.go_on()

    def on_after_recalibration(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning
    ) -> None:
        """Record the accuracy with recalibrated statistics of BatchNorm."""
        tested = evaluate_test(trainer, pl_module)
        self.top1_recalibrated = tested.top1 if tested else None
        self.rounds[-1]["top1_recalibrated"] = self.top1_recalibrated
        self._clock.go_on()

    def _count_before(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            counts, edges = histogram(parameter, None)
            self.histograms |= {f"before/{name}": counts, f"edges/{name}": edges}

    def _count_after(self, kept: Mapping[str, Tensor]) -> None:
        for name, values in kept.items():
            self.histograms[f"after/{name}"] = histogram(values, self.histograms[f"edges/{name}"])[0]

    def _test_before(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        tested = evaluate_test(trainer, pl_module)
        self.top1_before = tested.top1 if tested else None
        if tested:
            self.confusions["test_before"] = tested.confusion
        if pruning.moment.after_training and (trained := evaluate_train(trainer, pl_module)):
            self.confusions["train"] = trained.confusion

    def _try_thresholds(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Record the result of each threshold of a list on the network before pruning."""
        assert pruning.outcome is not None
        network = pruning.network(pl_module)
        for threshold in pruning.thresholds:
            plan = replace(pruning.plan, threshold=threshold)
            masks = plan.masks(pruning.outcome.scores, None, self._masks_before)
            with pruning.without_masks():
                row = evaluate_masks(trainer, pl_module, network, self._values_before, masks)
            self.thresholds.append({"threshold": threshold, **row})
        self._values_before, self._masks_before = {}, {}

    def best_top1(self, density: float) -> float | None:
        """Return the best test accuracy in percent over epochs at the final density, or None.

        Only epochs since the last pruning count; an exchange of weights, which changes no density, is not a
        pruning.
        """
        prunings = [row for row in self.rounds if row["sparsity_after"] != row["sparsity_before"]]
        first = prunings[-1]["epoch"] if prunings else 0
        final = [row for row in self.epochs[first:] if row["density"] == density]
        measured = [row["test_top1"] for row in final if row["test_top1"] is not None]
        return max(measured, default=None)


def _phase(pruning: Pruning | None) -> str:
    """Return ``pretrain`` before the first pruning, ``prune`` between rounds, ``train`` after the last."""
    if pruning is None or pruning.done:
        return "train"
    return "prune" if pruning.num_done else "pretrain"


def _add_epoch(pruning: Row, epoch: Row) -> None:
    """Record the results of an epoch in the row of the round before it."""
    pruning["epochs"] = pruning.get("epochs", 0) + 1
    pruning["last_top1"] = epoch["test_top1"]
    seen = [value for value in (pruning.get("best_top1"), epoch["test_top1"]) if value is not None]
    pruning["best_top1"] = max(seen, default=None)
    # If pruned weights may become nonzero, training ends with a lower sparsity than it started with.
    pruning["sparsity_trained"] = 1 - epoch["density"]
