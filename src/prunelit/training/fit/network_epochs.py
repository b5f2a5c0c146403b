"""Count the epochs that one network trains, over several fits and trainers."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl

from prunelit.training.fit.timing import Now

SAVED = ("shift", "last_pruning", "trained_before")


class Timeline:
    """The epochs of one network.

    A trainer counts its own epochs: a second trainer that continues with the same network starts at 0, and
    one trainer that fits two networks one after the other continues its count.

    Attributes:
        behind: epochs that the network has trained.
        shift: the epoch of the network minus the epoch of the trainer.
        last_pruning: the epoch of the last pruning; None before the first.
        trained_before: whether training resumes from a checkpoint of a training without pruning.
        is_resumed: whether this fit resumes from a checkpoint with the state of the pruning.
        resumed_at: epochs and steps of the checkpoint of this fit; None without one.
    """

    def __init__(self) -> None:
        self.behind = self.shift = 0
        self.last_pruning: int | None = None
        self.trained_before = self.is_resumed = False
        self.resumed_at: tuple[int, int] | None = None

    def begin_fit(self) -> None:
        """Record the start of a fit; its checkpoint is not read yet."""
        self.is_resumed, self.resumed_at = False, None

    def begin_network(self) -> None:
        """Count the epochs of another network."""
        self.behind, self.last_pruning, self.trained_before = 0, None, False

    def read(self, checkpoint: dict[str, Any]) -> None:
        """Record the progress of a checkpoint, which the trainer knows only after ``on_fit_start``."""
        if "loops" in checkpoint:
            progress = checkpoint["loops"]["fit_loop"]["epoch_progress"]
            self.resumed_at = progress["current"]["processed"], checkpoint.get("global_step", 0)

    def begin_training(self, trainer: pl.Trainer) -> None:
        """Compute which epoch of the network the trainer's next one is."""
        if self.resumed_at is None:
            self.shift = self.behind - trainer.current_epoch
        elif not self.is_resumed:
            self.shift = 0
            self.trained_before = self.resumed_at[1] > 0
        self.behind = self.epoch(trainer)

    def epoch(self, trainer: pl.Trainer) -> int:
        """Return the network's current epoch."""
        return trainer.current_epoch + self.shift

    def now(self, trainer: pl.Trainer, prunings: int) -> Now:
        """Return the progress of the training after ``prunings``."""
        step, last, trained = trainer.global_step, self.last_pruning, self.trained_before
        return Now(self.epoch(trainer), step, prunings, last, trained)

    def last_epoch(self, trainer: pl.Trainer) -> int:
        """Return the epoch with which the trainer stops, or -1 if it has no limit."""
        return -1 if trainer.max_epochs in (None, -1) else trainer.max_epochs + self.shift

    def end_epoch(self, trainer: pl.Trainer) -> None:
        """Record the end of an epoch."""
        self.behind = self.epoch(trainer) + 1

    def state_dict(self) -> dict[str, Any]:
        """Return the state for checkpoints."""
        return {name: getattr(self, name) for name in SAVED}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state of a checkpoint; checkpoints of earlier versions have none."""
        self.begin_network()
        self.shift, self.is_resumed = 0, True
        for name, value in state.items():
            setattr(self, name, value)
