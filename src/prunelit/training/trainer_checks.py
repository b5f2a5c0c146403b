"""Refuse what a trainer or its other callbacks do not allow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning.pytorch as pl

from prunelit.pruning.criteria import Criterion
from prunelit.request import BadRequest

if TYPE_CHECKING:
    from prunelit.training.network_pruner import NetworkPruner


def check_batches(trainer: pl.Trainer, criterion: Criterion) -> None:
    """Raise BadRequest if a criterion needs training batches and the trainer takes none."""
    if trainer.limit_train_batches == 0 and criterion.needs != "nothing":
        name = type(criterion).__name__
        raise BadRequest("limit_train_batches", 0, "more than 0", f"{name} is scored on training batches")


def check_apart(pruning: NetworkPruner, pl_module: pl.LightningModule, trainer: pl.Trainer) -> None:
    """Raise BadRequest if another callback prunes a part of the same network."""
    from prunelit.training.network_pruner import NetworkPruner  # it imports this file

    own = {id(parameter) for parameter in pruning.network(pl_module).parameters()}
    for other in trainer.callbacks:  # type: ignore[attr-defined]
        if not isinstance(other, NetworkPruner) or other is pruning:
            continue
        if any(id(parameter) in own for parameter in other.network(pl_module).parameters()):
            why = f"another Pruning callback has network={other.network_name!r}"
            raise BadRequest("network", repr(pruning.network_name), "a part of its own", why)
