"""Bring a batch to a module the way that the Trainer's own loops do, wherever prunelit runs one."""

from __future__ import annotations

import copy
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor
from torch.utils._pytree import tree_map


def transferred(
    trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, dataloader_idx: int = 0
) -> Any:
    """Return ``batch`` in the trainer's precision and on the device of ``pl_module``.

    Each batch hook of the module or the data module runs once, in Lightning's order:
    ``on_before_batch_transfer``, ``transfer_batch_to_device``, ``on_after_batch_transfer``.
    """
    batch = trainer.precision_plugin.convert_input(batch)
    batch = pl_module._on_before_batch_transfer(batch, dataloader_idx=dataloader_idx)
    return trainer.strategy.batch_to_device(batch, pl_module.device, dataloader_idx)


def copied(batch: Any) -> Any:
    """Return a copy of ``batch`` with tensors of its own, so that a step may change it in place."""

    def copy_leaf(leaf: Any) -> Any:
        if isinstance(leaf, Tensor):
            return leaf.detach().clone(memory_format=torch.preserve_format).requires_grad_(leaf.requires_grad)
        return copy.copy(leaf)

    return tree_map(copy_leaf, batch)
