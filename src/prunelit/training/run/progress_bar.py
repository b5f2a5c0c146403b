"""What a person at a terminal sees: a progress bar with loss, accuracy and density."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar

from prunelit.training.callback import Pruning
from prunelit.training.module import Classifier


class Progress(TQDMProgressBar):
    """A bar an epoch; its figures are computed only when it is drawn."""

    def __init__(self, stays: bool = True) -> None:
        """``stays``: the last state of the bar stays on the screen when the run has ended."""
        super().__init__(refresh_rate=20)
        self.stays = stays

    def init_train_tqdm(self) -> Any:
        """Return the bar of an epoch."""
        bar = super().init_train_tqdm()
        bar.leave = self.stays
        return bar

    def init_test_tqdm(self) -> Any:
        """Return the bar of the test at the end."""
        bar = super().init_test_tqdm()
        bar.leave = self.stays
        return bar

    def get_metrics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        """Return the epoch's loss and accuracy so far, the last test accuracy, and the density."""
        assert isinstance(pl_module, Classifier)
        items: dict[str, Any] = {}
        if pl_module.train_totals.update_called:
            now = pl_module.train_totals.so_far()
            items = {"loss": f"{now['loss']:.3f}", "top1": f"{now['top1']:.2f}%"}
        test = trainer.callback_metrics.get("test/top1")
        if test is not None:
            items["test"] = f"{float(test):.2f}%"
        pruning = [c for c in trainer.callbacks if isinstance(c, Pruning)]  # type: ignore[attr-defined]
        if pruning:
            items["density"] = f"{100 * pruning[0].current_density:.2f}%"
        return items

    def init_validation_tqdm(self) -> Any:
        """Draw no bar for the test pass of each epoch."""
        bar = super().init_validation_tqdm()
        bar.disable = True
        return bar
