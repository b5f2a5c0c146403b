"""Share masks and buffers among all ranks, and check that they are equal."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import nn

from prunelit.pruning.masks import Masks, digest


class RanksDisagree(RuntimeError):
    """The masks of the ranks differ."""


def agreed(trainer: pl.Trainer, masks: Masks) -> Masks:
    """Return the masks of rank 0 on every rank."""
    devices = {name: mask.device for name, mask in masks.items()}
    sent = trainer.strategy.broadcast({name: mask.cpu() for name, mask in masks.items()})
    return {name: sent[name].to(device) for name, device in devices.items()}


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
