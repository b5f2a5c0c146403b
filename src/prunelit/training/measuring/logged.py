"""What a run logs: epochs, histograms and images around prunings, and the final numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from prunelit.pruning.masks import Masks
from prunelit.pruning.parameters import Parameters
from prunelit.training.lightning_classes import is_lightning
from prunelit.training.measuring.images import kernel_image, mask_image


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


def log_weights(trainer: pl.Trainer, tag: str, weights: Mapping[str, Tensor], epoch: int) -> None:
    """Write a histogram of each of ``weights`` to TensorBoard."""
    for writer in _writers(trainer):
        for name, values in weights.items():
            if values.numel():
                values = values.detach().abs() if values.is_complex() else values.detach()
                writer.add_histogram(f"{tag}/{name}", values.float().cpu(), epoch)


def log_images(trainer: pl.Trainer, parameters: Parameters, masks: Masks, epoch: int) -> None:
    """Write images of masks and kernels to TensorBoard."""
    for writer in _writers(trainer) if trainer.is_global_zero else []:
        for name, weight in parameters.items():
            if weight.ndim > 1:
                writer.add_image(f"masks/{name}", mask_image(masks[name]), epoch)
            if weight.ndim in (3, 4) and weight[0, 0].numel() > 1:
                writer.add_image(f"kernels/{name}", kernel_image(weight, masks[name]), epoch)


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


def _writers(trainer: pl.Trainer) -> list[Any]:
    """Return the TensorBoard writers of the trainer."""
    experiments: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
    return [e for e in experiments if hasattr(e, "add_histogram")]
