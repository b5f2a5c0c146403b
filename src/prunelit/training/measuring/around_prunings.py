"""The network around each pruning: its accuracy, histograms of its weights, and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from prunelit.training.callback import Pruning
from prunelit.training.measuring.best_effort import BestEffort
from prunelit.training.measuring.evaluation import evaluate_test, evaluate_train
from prunelit.training.measuring.histograms import histogram, stacked, unstacked

Row = dict[str, Any]
MEASURED = ("rounds", "top1_before", "top1_after", "histograms", "confusions")
RECOVERED = ("top1_repaired", "top1_recalibrated")
"""The state in checkpoints; checkpoints of earlier versions may lack the second."""


class AroundPrunings:
    """Measures the network just before and just after each pruning.

    Attributes:
        rounds: rows of ``rounds.csv``: one per pruning, with the results of the training after it.
        top1_before: test accuracy in percent just before the last pruning, or None.
        top1_after: the same just after it.
        top1_repaired: the same once the layers behind removed units are repaired, or None.
        top1_recalibrated: the same once BatchNorm is recalibrated too, or None.
        confusions: just before the last pruning on the test set, ``test_before``, and if it comes after
            training and the images are in memory, on the training set, ``train``.
        histograms: by ``before/<parameter>``, ``after/<parameter>`` (kept weights only) and
            ``edges/<parameter>``: counts and bin edges of the prunable parameters.
    """

    def __init__(self, attempt: BestEffort) -> None:
        self.rounds: list[Row] = []
        self.top1_before: float | None = None
        self.top1_after: float | None = None
        self.top1_repaired: float | None = None
        self.top1_recalibrated: float | None = None
        self.histograms: dict[str, Tensor] = {}
        self.confusions: dict[str, Tensor] = {}
        self._attempt = attempt
        self._density_before = 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return all measurements so far."""
        state = {name: getattr(self, name) for name in (*MEASURED, *RECOVERED)}
        return state | {"histograms": stacked(self.histograms)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the measurements of a checkpoint."""
        for name in MEASURED:
            setattr(self, name, state_dict[name])
        self.histograms = unstacked(self.histograms)
        for name in RECOVERED:
            setattr(self, name, state_dict.get(name))

    def before(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning, epoch: int
    ) -> None:
        """Record accuracy and weights before a pruning."""
        tested = evaluate_test(trainer, pl_module)
        self.top1_before = tested.top1 if tested else None
        if tested:
            self.confusions["test_before"] = tested.confusion
        if pruning.moment.after_training and (trained := evaluate_train(trainer, pl_module)):
            self.confusions["train"] = trained.confusion
        self._density_before = pruning.current_density
        parameters = pruning.selection.of(pruning.network(pl_module))
        self._attempt("histograms of weights", lambda: self._count_before(parameters))

    def after(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning, epoch: int) -> None:
        """Record accuracy and kept weights after a pruning, and add its row.

        Args:
            trainer: of ``pl_module``.
            pl_module: the classifier.
            pruning: the callback that has pruned it.
            epoch: the number of epochs that have ended.
        """
        parameters = pruning.selection.of(pruning.network(pl_module))
        masks = pruning.cut.of_whole(pruning.masks)
        kept = {name: p[masks[name]] for name, p in parameters.items()}
        self._attempt("histograms of weights", lambda: self._count_after(kept))
        tested = evaluate_test(trainer, pl_module)
        self.top1_after = tested.top1 if tested else None
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

    def after_recovery(self, trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> None:
        """Record the accuracy after a repair or a recalibration under ``name``."""
        tested = evaluate_test(trainer, pl_module)
        setattr(self, name, tested.top1 if tested else None)
        self.rounds[-1][name] = getattr(self, name)

    def add_epoch(self, epoch: Row) -> None:
        """Record the results of an epoch in the row of the pruning before it, if any.

        Args:
            epoch: the epoch's row of ``metrics.csv``.
        """
        if not self.rounds:
            return
        last = self.rounds[-1]
        last["epochs"] = last.get("epochs", 0) + 1
        last["last_top1"] = epoch["test_top1"]
        seen = [value for value in (last.get("best_top1"), epoch["test_top1"]) if value is not None]
        last["best_top1"] = max(seen, default=None)
        # If pruned weights may become nonzero, training ends with a lower sparsity than it started with.
        last["sparsity_trained"] = 1 - epoch["density"]

    @property
    def last_epoch(self) -> int:
        """The number of epochs before the last pruning; 0 without one.

        An exchange of weights, which changes no density, is not a pruning.
        """
        prunings = [row for row in self.rounds if row["sparsity_after"] != row["sparsity_before"]]
        return int(prunings[-1]["epoch"]) if prunings else 0

    def _count_before(self, parameters: Mapping[str, Tensor]) -> None:
        for name, parameter in parameters.items():
            counts, edges = histogram(parameter, None)
            self.histograms |= {f"before/{name}": counts, f"edges/{name}": edges}

    def _count_after(self, kept: Mapping[str, Tensor]) -> None:
        for name, values in kept.items():
            self.histograms[f"after/{name}"] = histogram(values, self.histograms[f"edges/{name}"])[0]
