"""What a run sends to every logger: the rows of its epochs, and the final numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl

from prunelit.training.lightning_classes import is_lightning


def log_epoch(trainer: pl.Trainer, row: Mapping[str, Any]) -> None:
    """Send a row of ``metrics.csv`` to every logger; ``test_loss`` becomes ``test/loss``."""
    for logger in trainer.loggers:
        logger.log_metrics(_scalars(row), step=row["epoch"])


def log_earlier_epochs(trainer: pl.Trainer, rows: Sequence[Mapping[str, Any]]) -> None:
    """Send the rows of a resumed run to Lightning's CSVLogger, which starts a new file."""
    for logger in trainer.loggers:
        if is_lightning(logger, "CSVLogger"):
            for row in rows:
                logger.log_metrics(_scalars(row), step=row["epoch"])


def _scalars(row: Mapping[str, Any]) -> dict[str, Any]:
    skipped = ("epoch", "phase")
    return {
        key.replace("_", "/", 1) if key.startswith(("train_", "test_", "validation_")) else key: value
        for key, value in row.items()
        if key not in skipped and value is not None
    }


def log_result(trainer: pl.Trainer, asked: dict[str, Any], result: Mapping[str, Any]) -> None:
    """Fill TensorBoard's HPARAMS page, with the same keys for every run, and the final scalars."""
    wanted = ("top1", "top5", "test_loss", "density", "effective_density", "flops_sparse")
    metrics = {f"final/{key}": result[key] for key in wanted if result[key] is not None}
    for logger in trainer.loggers:
        if is_lightning(logger, "TensorBoardLogger"):
            logger.log_hyperparams(asked, metrics)
        else:
            logger.log_hyperparams(asked)
            logger.log_metrics(metrics)
        logger.finalize("success")
