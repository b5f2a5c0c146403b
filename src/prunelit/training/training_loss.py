"""The loss that a LightningModule trains by, as a function of one batch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
from torch import Tensor

from prunelit.pruning.objective import Batch


def training_loss(pl_module: pl.LightningModule) -> Callable[[Batch], Tensor]:
    """Return the module's mean loss of one batch: its ``pruning_loss(batch)``, or its ``training_step``.

    Raises:
        ValueError: the module optimises by hand, so that its training step gives no loss.
    """
    own: Callable[[Batch], Tensor] | None = getattr(pl_module, "pruning_loss", None)
    if own is not None:
        return own
    name = type(pl_module).__name__
    if not pl_module.automatic_optimization:
        raise ValueError(
            f"{name} optimises by hand, so pruning finds no loss: "
            "give it a pruning_loss(batch) method that returns the mean loss of a batch"
        )
    extra = len(inspect.signature(pl_module.training_step).parameters) - 1

    def loss(batch: Batch) -> Tensor:
        output: Any = pl_module.training_step(batch, *[0] * extra)
        value = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                f"{name}.training_step gives no differentiable scalar loss: "
                "give the module a pruning_loss(batch) method that returns the mean loss of a batch"
            )
        return value

    return loss
