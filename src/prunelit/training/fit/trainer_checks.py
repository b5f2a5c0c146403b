"""Refuse options that the trainer or its other callbacks do not support."""

from __future__ import annotations

from collections.abc import Iterable

import lightning.pytorch as pl
from torch import nn

from prunelit.pruning.criteria import Criterion
from prunelit.request import BadRequest


def check_batches(trainer: pl.Trainer, criterion: Criterion) -> None:
    """Raise BadRequest if a criterion needs training batches and the trainer uses none."""
    if trainer.limit_train_batches == 0 and criterion.needs != "nothing":
        name = type(criterion).__name__
        raise BadRequest("limit_train_batches", 0, "more than 0", f"{name} is scored on training batches")


def check_apart(name: str, network: nn.Module, others: Iterable[tuple[str, nn.Module]]) -> None:
    """Raise BadRequest if another callback prunes a part of the same network.

    Args:
        name: dotted name of the submodule that is pruned here.
        network: that submodule.
        others: name and submodule of each other callback that prunes.
    """
    own = {id(parameter) for parameter in network.parameters()}
    for other_name, other in others:
        if any(id(parameter) in own for parameter in other.parameters()):
            why = f"another Pruning callback has network={other_name!r}"
            raise BadRequest("network", repr(name), "a part of its own", why)
