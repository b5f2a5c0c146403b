"""What a pruning settles with other ranks, and what it tells the other callbacks of its trainer."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import ModelCheckpoint

from prunelit.pruning.masks import Masks, digest


def agreed(trainer: pl.Trainer, masks: Masks) -> Masks:
    """Return the masks of rank 0 on every rank.

    Raises:
        RuntimeError: a rank did not get what rank 0 sent.
    """
    devices = {name: mask.device for name, mask in masks.items()}
    sent = trainer.strategy.broadcast({name: mask.cpu() for name, mask in masks.items()})
    if digest(sent) != trainer.strategy.broadcast(digest(masks)):
        raise RuntimeError(f"rank {trainer.global_rank} holds other masks than rank 0")
    return {name: mask.to(devices[name]) for name, mask in sent.items()}


def tell(trainer: pl.Trainer, event: str, *news: Any) -> None:
    """Call the method ``event`` of every callback that has it, with the trainer and ``news``."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        listener = getattr(callback, event, None)
        if listener is not None:
            listener(trainer, *news)


def forget_best(trainer: pl.Trainer) -> None:
    """Let every monitoring checkpoint start anew: a best from before the pruning is none of this density."""
    for checkpoint in trainer.checkpoint_callbacks:
        if isinstance(checkpoint, ModelCheckpoint) and checkpoint.monitor is not None:
            checkpoint.best_k_models = {}
            checkpoint.best_model_score = checkpoint.current_score = None
            checkpoint.kth_value = None  # type: ignore[assignment]
            checkpoint.best_model_path = checkpoint.kth_best_model_path = ""
