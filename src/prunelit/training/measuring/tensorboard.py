"""TensorBoard's histograms of weights and images of masks and kernels, around each pruning."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from prunelit.pruning.masks import Masks
from prunelit.pruning.parameters import Parameters
from prunelit.training.callback import Pruning
from prunelit.training.measuring.best_effort import BestEffort
from prunelit.training.measuring.images import kernel_image, mask_image


class TensorBoard:
    """Writes histograms and images at each pruning to the loggers of the trainer that take them."""

    def __init__(self, attempt: BestEffort) -> None:
        self._attempt = attempt

    def before(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning, epoch: int
    ) -> None:
        """Write histograms of the weights before a pruning."""
        parameters = pruning.selection.of(pruning.network(pl_module))
        log = partial(log_weights, trainer, "weights_before_pruning", parameters, epoch)
        self._attempt("TensorBoard's histograms", log)

    def after(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning, epoch: int) -> None:
        """Write histograms of the kept weights, and images of masks and kernels."""
        parameters = pruning.selection.of(pruning.network(pl_module))
        masks = pruning.cut.of_whole(pruning.masks)
        kept = {name: p[masks[name]] for name, p in parameters.items()}
        log = partial(log_weights, trainer, "weights_after_pruning", kept, epoch)
        self._attempt("TensorBoard's histograms", log)
        draw = partial(log_images, trainer, parameters, masks, epoch)
        self._attempt("TensorBoard's images", draw)


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


def _writers(trainer: pl.Trainer) -> list[Any]:
    """Return the TensorBoard writers of the trainer."""
    experiments: list[Any] = [getattr(logger, "experiment", None) for logger in trainer.loggers]
    return [e for e in experiments if hasattr(e, "add_histogram")]
