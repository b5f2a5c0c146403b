"""The epochs of a run: one row for each, and the clock of the training."""

from __future__ import annotations

import math
from typing import Any

import lightning.pytorch as pl

from prunelit.training.callback import Pruning
from prunelit.training.measuring.epoch_clock import EpochClock
from prunelit.training.module import Classifier

Row = dict[str, Any]


class Epochs:
    """Collects the rows of ``metrics.csv``.

    Attributes:
        rows: one row per epoch that has ended.
        clock: the seconds of training in the current epoch.
    """

    def __init__(self, pruning: Pruning | None) -> None:
        self.rows: list[Row] = []
        self.clock = EpochClock()
        self._pruning = pruning
        self._learning_rate = float("nan")
        self._density_evaluated: float | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far, and what is known of the current epoch."""
        clock = {"seconds": self.clock.seconds, "learning_rate": self._learning_rate}
        return {"epochs": self.rows, "clock": clock, "density_evaluated": self._density_evaluated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows and the interrupted epoch of a checkpoint."""
        self.rows = state_dict["epochs"]
        self.clock.resume_at(state_dict["clock"]["seconds"])
        self._learning_rate = state_dict["clock"]["learning_rate"]
        self._density_evaluated = state_dict.get("density_evaluated")

    def start(self, trainer: pl.Trainer) -> None:
        """Start the clock of an epoch."""
        self.clock.start()
        self.note_learning_rate(trainer)

    def note_learning_rate(self, trainer: pl.Trainer) -> None:
        """Remember the current learning rate for the row; a pruning may change it within an epoch."""
        self._learning_rate = float(trainer.optimizers[0].param_groups[0]["lr"])

    def note_evaluated_density(self) -> None:
        """Remember the density of the network that was just evaluated."""
        self._density_evaluated = self._density

    def add(self, trainer: pl.Trainer, pl_module: Classifier) -> Row:
        """Add the row of the epoch that ends, and return it.

        Results on the test set are None if they belong to another density, because pruned weights may become
        nonzero within an epoch.
        """
        row: Row = {
            "epoch": trainer.current_epoch,
            "phase": _phase(self._pruning),
            "learning_rate": self._learning_rate,
        }
        density = self._density
        nothing: dict[str, float] = dict.fromkeys(("loss", "top1", "top5"), math.nan)
        results = {"train": pl_module.train_totals.compute(), "test": nothing}
        if density == self._density_evaluated:
            results |= pl_module.evaluated
        for split, numbers in results.items():
            row |= {f"{split}_{key}": None if math.isnan(v) else v for key, v in numbers.items()}
        row["density"] = density
        row["seconds"] = self.clock.seconds
        self.rows.append(row)
        return row

    def best_top1(self, density: float, first: int) -> float | None:
        """Return the best test accuracy in percent of the epochs from ``first`` on that have ``density``, or
        None."""
        final = [row for row in self.rows[first:] if row["density"] == density]
        return max((row["test_top1"] for row in final if row["test_top1"] is not None), default=None)

    @property
    def _density(self) -> float:
        return self._pruning.current_density if self._pruning else 1.0


def _phase(pruning: Pruning | None) -> str:
    """Return ``pretrain`` before the first pruning, ``prune`` between rounds, ``train`` after the last."""
    if pruning is None or pruning.done:
        return "train"
    return "prune" if pruning.num_done else "pretrain"
