"""Share masks, buffers and decisions among all ranks, and check that masks are equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import lightning.pytorch as pl
import torch
from torch import nn

from prunelit.pruning.masks import Masks, digest
from prunelit.request import BadRequest

T = TypeVar("T")


class RanksDisagree(RuntimeError):
    """The masks of the ranks differ."""


def agreed(trainer: pl.Trainer, masks: Masks) -> Masks:
    """Return the masks of rank 0 on every rank."""
    devices = {name: mask.device for name, mask in masks.items()}
    sent = trainer.strategy.broadcast({name: mask.cpu() for name, mask in masks.items()})
    return {name: sent[name].to(device) for name, device in devices.items()}


def decided_by_first_rank(trainer: pl.Trainer, decide: Callable[[], T]) -> T:
    """Return on every rank what ``decide`` returns on rank 0, the only one that calls it.

    A decision that depends on rounding, or on the images of a rank, is then the same everywhere.

    Raises:
        BadRequest: on every rank, if ``decide`` raises it on rank 0.
    """
    found: T | None = None
    refused: BadRequest | None = None
    if trainer.is_global_zero:
        try:
            found = decide()
        except BadRequest as error:
            refused = error
    found, refused = trainer.strategy.broadcast((found, refused))
    if refused is not None:
        raise refused
    return found  # type: ignore[return-value]


def check_agreement(trainer: pl.Trainer, masks: Masks) -> None:
    """Compare a digest of the masks of each rank.

    Raises:
        RanksDisagree: on every rank, if the masks of one rank differ from those of rank 0.
    """
    if trainer.world_size == 1:
        return
    digests = [""] * trainer.world_size
    torch.distributed.all_gather_object(digests, digest(masks))
    others = [rank for rank, found in enumerate(digests) if found != digests[0]]
    if others:
        ranks = ", ".join(map(str, others))
        raise RanksDisagree(f"masks differ from those of rank 0 on rank {ranks} of {trainer.world_size}")


@torch.no_grad()
def share_buffers(trainer: pl.Trainer, module: nn.Module) -> None:
    """Give every rank the buffers of rank 0, such as running statistics.

    Each rank computes them from its own batches, and DDP only shares them at the start of a training step.
    """
    if trainer.world_size > 1:
        for buffer in module.buffers():
            value = buffer.clone(memory_format=torch.contiguous_format)
            torch.distributed.broadcast(value, 0)
            if not torch.equal(value, buffer):  # an expanded tensor cannot be written
                buffer.copy_(value)
