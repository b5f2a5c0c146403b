"""What a run measures while it trains: epochs, accuracy around pruning, weights for the pictures."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from prunelit.pruning.masks import Masks
from prunelit.pruning.rounds import starting_masks
from prunelit.training.callback import Pruning
from prunelit.training.evaluation import Values, evaluate_masks, evaluate_test, evaluate_train, tensors_of
from prunelit.training.images import kernel_image, mask_image
from prunelit.training.module import Classifier

Row = dict[str, Any]
BINS = 64
MEASURED = ("epochs", "rounds", "top1_before", "top1_after", "histograms", "confusions", "thresholds")
"""What checkpoints hold."""


class Measurements(Callback):
    """Collects a row an epoch, the test accuracy around each pruning, and weight histograms.

    ``epochs_changed`` is called with all rows so far after every epoch. Everything rides along in
    checkpoints, so that a resumed run has the whole record.

    Attributes:
        epochs: rows of ``metrics.csv``.
        rounds: rows of ``rounds.csv``: a pruning each, and how the training after it went.
        top1_before: test accuracy in percent just before the last pruning, or None.
        top1_after: the same just after it.
        confusions: just before the last pruning on the test set, ``test_before``, and if it comes after
            training and the images are in memory, on the training set, ``train``.
        thresholds: rows of ``thresholds.csv``: what each threshold of a list would leave.
        histograms: by ``before/<parameter>``, ``after/<parameter>`` (kept weights only) and
            ``edges/<parameter>``: counts and bin edges of the prunable parameters.
    """

    state_key = "prunelit.Measurements"

    def __init__(self, pruning: Pruning | None, epochs_changed: Callable[[list[Row]], None]) -> None:
        self.pruning, self.epochs_changed = pruning, epochs_changed
        self.epochs: list[Row] = []
        self.rounds: list[Row] = []
        self.top1_before: float | None = None
        self.top1_after: float | None = None
        self.histograms: dict[str, Tensor] = {}
        self.confusions: dict[str, Tensor] = {}
        self.thresholds: list[Row] = []
        self._values_before: Values = {}
        self._masks_before: Masks = {}
        self._started = self._paused = 0.0
        self._resumed_at: float | None = None
        self._learning_rate = float("nan")
        self._density_evaluated: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return everything measured so far, and what the clock of the epoch shows."""
        clock = {"seconds": self._seconds(), "learning_rate": self._learning_rate}
        measured = {name: getattr(self, name) for name in MEASURED}
        return {**measured, "clock": clock, "density_evaluated": self._density_evaluated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what a checkpoint had measured."""
        for name in MEASURED:
            setattr(self, name, state_dict[name])
        self._resumed_at = state_dict["clock"]["seconds"]
        self._learning_rate = state_dict["clock"]["learning_rate"]
        self._density_evaluated = state_dict.get("density_evaluated")

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the clock of an epoch that a checkpoint broke off go on."""
        if self._resumed_at is not None:
            self._started, self._paused = time.perf_counter() - self._resumed_at, 0.0
            self._resumed_at = None

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock; it does not count pruning, which has one of its own."""
        self._started, self._paused = time.perf_counter(), 0.0
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop the clock: the test curve is no training."""
        self._paused -= time.perf_counter()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Let the clock go on, and note the density that was evaluated."""
        self._paused += time.perf_counter()
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
        if density == self._density_evaluated:  # pruned weights that may grow back do so within an epoch
            measured |= pl_module.evaluated
        for split, found in measured.items():
            row |= {f"{split}_{key}": None if math.isnan(v) else v for key, v in found.items()}
        row["density"] = density
        row["seconds"] = self._seconds()
        self.epochs.append(row)
        if self.rounds:
            _add_epoch(self.rounds[-1], row)
        if trainer.is_global_zero:
            self.epochs_changed(self.epochs)
        _log(trainer, row)

    def _seconds(self) -> float:
        return time.perf_counter() - self._started - self._paused

    def on_before_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Note accuracy and weights before pruning."""
        start = time.perf_counter()
        self._test_before(trainer, pl_module, pruning)
        self._density_before = pruning.current_density
        parameters = pruning.selection.of(pruning.network(pl_module))
        for name, parameter in parameters.items():
            counts, edges = _histogram(parameter, None)
            self.histograms |= {f"before/{name}": counts, f"edges/{name}": edges}
        if pruning.thresholds:
            network = pruning.network(pl_module)
            # All of it: what comes between, as rewinding, changes biases and statistics too.
            self._values_before = {n: t.detach().clone() for n, t in tensors_of(network).items()}
            self._masks_before = starting_masks(network, parameters)
        self._note_weights(trainer, "weights_before_pruning", parameters)
        self._paused += time.perf_counter() - start
        self._pruning_started = time.perf_counter()

    def on_after_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Note accuracy and kept weights after pruning; what was evaluated before is of other masks."""
        assert isinstance(pl_module, Classifier)
        pl_module.evaluated = {}
        trainer.callback_metrics.clear()
        parameters = pruning.selection.of(pruning.network(pl_module))
        for name, parameter in parameters.items():
            kept = parameter[pruning.masks[name]]
            self.histograms[f"after/{name}"] = _histogram(kept, self.histograms[f"edges/{name}"])[0]
        kept_weights = {name: p[pruning.masks[name]] for name, p in parameters.items()}
        self._note_weights(trainer, "weights_after_pruning", kept_weights)
        self._note_images(trainer, parameters, pruning.masks)
        tested = evaluate_test(trainer, pl_module)
        self.top1_after = tested.top1 if tested else None
        if pruning.thresholds:
            self._try_thresholds(trainer, pl_module, pruning)
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])
        self.rounds.append(
            {
                "round": len(self.rounds) + 1,
                "epoch": len(self.epochs),
                "sparsity_before": 1 - self._density_before,
                "sparsity_after": 1 - pruning.current_density,
                "top1_before": self.top1_before,
                "top1_after": self.top1_after,
            }
        )
        self._paused += time.perf_counter() - self._pruning_started

    def _test_before(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        tested = evaluate_test(trainer, pl_module)
        self.top1_before = tested.top1 if tested else None
        if tested:
            self.confusions["test_before"] = tested.confusion
        if pruning.timing.when == "end" and (trained := evaluate_train(trainer, pl_module)):
            self.confusions["train"] = trained.confusion

    def _try_thresholds(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Note what each threshold of a list would leave of the network as it was before pruning."""
        assert pruning.outcome is not None
        network = pruning.network(pl_module)
        for threshold in pruning.thresholds:
            plan = replace(pruning.plan, threshold=threshold)
            masks = plan.masks(pruning.outcome.scores, None, self._masks_before)
            with pruning.without_masks():
                row = evaluate_masks(trainer, pl_module, network, self._values_before, masks)
            self.thresholds.append({"threshold": threshold, **row})
        self._values_before, self._masks_before = {}, {}

    def _note_weights(self, trainer: pl.Trainer, tag: str, weights: Any) -> None:
        for writer in _writers(trainer):
            for name, values in weights.items():
                if values.numel():
                    writer.add_histogram(f"{tag}/{name}", values.detach().float().cpu(), len(self.epochs))

    def _note_images(self, trainer: pl.Trainer, parameters: Any, masks: Masks) -> None:
        for writer in _writers(trainer) if trainer.is_global_zero else []:
            for name, weight in parameters.items():
                if weight.ndim > 1:
                    writer.add_image(f"masks/{name}", mask_image(masks[name]), len(self.epochs))
                if weight.ndim in (3, 4) and weight[0, 0].numel() > 1:
                    image = kernel_image(weight, masks[name])
                    writer.add_image(f"kernels/{name}", image, len(self.epochs))

    def best_top1(self, density: float) -> float | None:
        """Return the best test accuracy in percent over epochs at the final density, or None.

        Only epochs under the final masks count: those after the last pruning or exchange of weights.
        """
        first = self.rounds[-1]["epoch"] if self.rounds else 0
        final = [row for row in self.epochs[first:] if row["density"] == density]
        measured = [row["test_top1"] for row in final if row["test_top1"] is not None]
        return max(measured, default=None)


def _phase(pruning: Pruning | None) -> str:
    """Return ``pretrain`` before the first pruning, ``prune`` between rounds, ``train`` after the last."""
    if pruning is None or pruning.done:
        return "train"
    return "prune" if pruning.num_done else "pretrain"


def _add_epoch(pruning: Row, epoch: Row) -> None:
    """Note in a round's row how an epoch of the training after it went."""
    pruning["epochs"] = pruning.get("epochs", 0) + 1
    pruning["last_top1"] = epoch["test_top1"]
    seen = [value for value in (pruning.get("best_top1"), epoch["test_top1"]) if value is not None]
    pruning["best_top1"] = max(seen, default=None)
    # Where pruned weights may grow back, training ends with a lower sparsity than it began with.
    pruning["sparsity_trained"] = 1 - epoch["density"]


def kept_connections(masks: Masks) -> dict[str, Tensor]:
    """Return, by weight, how many connections each output unit (axis 0) and input unit (axis 1) keeps."""
    kept = {}
    for name, mask in masks.items():
        if mask.ndim >= 2:
            kept[f"kept_by_output/{name}"] = mask.flatten(1).sum(1).int().cpu()
            kept[f"kept_by_input/{name}"] = mask.transpose(0, 1).flatten(1).sum(1).int().cpu()
    return kept


def _histogram(values: Tensor, edges: Tensor | None) -> tuple[Tensor, Tensor]:
    values = values.detach().float().cpu().flatten()
    values = values[values.isfinite()]
    if edges is None:
        low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
        edges = torch.linspace(low, high if high > low else low + 1, BINS + 1)
    counts = torch.histc(values, BINS, float(edges[0]), float(edges[-1]))
    return counts.long(), edges


def _writers(trainer: pl.Trainer) -> list[Any]:
    """Return the TensorBoard writers of the trainer."""
    experiments: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
    return [e for e in experiments if hasattr(e, "add_histogram")]


def _log(trainer: pl.Trainer, row: Row) -> None:
    """Send a row to every logger; ``test_loss`` becomes ``test/loss``."""
    skipped = ("epoch", "phase")
    scalars = {
        key.replace("_", "/", 1) if key.startswith(("train_", "test_", "validation_")) else key: value
        for key, value in row.items()
        if key not in skipped and value is not None
    }
    for logger in trainer.loggers:
        logger.log_metrics(scalars, step=row["epoch"])
