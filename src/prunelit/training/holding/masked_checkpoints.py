"""Apply masks to the weights of a checkpoint when it is written.

Hooks of other callbacks and of the module may run after the hooks of
:class:`~prunelit.training.callback.Pruning` and store other weights in a checkpoint, such as an average.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.plugins import CheckpointIO
from torch import Tensor
from torch.distributed.tensor import DTensor

from prunelit.pruning.masks import Masks, attached

WEIGHTS = ("state_dict", "current_model_state")
"""Keys of a checkpoint with weights under the names of the module; ``WeightAveraging`` uses the second."""


class MaskedCheckpointIO(CheckpointIO):
    """Writes checkpoints through another ``CheckpointIO``, with pruned weights at 0.

    Args:
        inner: writes, reads and removes files.
        trainer: the trainer whose module is saved; its part ``network_name`` has the masks.
        network_name: dotted name; empty: the whole module.

    Attributes:
        before_loading: called with each checkpoint that was read, before its weights are loaded.
    """

    before_loading: Callable[[dict[str, Any]], None] | None = None

    def __init__(self, inner: CheckpointIO, trainer: pl.Trainer, network_name: str) -> None:
        self.inner, self.trainer, self.network_name = inner, trainer, network_name

    def save_checkpoint(self, checkpoint: dict[str, Any], *args: Any, **options: Any) -> None:
        """Write ``checkpoint``; the given dictionary is not changed."""
        network = dict(self.trainer.lightning_module.named_modules()).get(self.network_name)
        masks = (attached(network) if network is not None else None) or {}
        start = f"{self.network_name}." if self.network_name else ""
        masks = {start + name: mask for name, mask in masks.items()}
        found = {key: checkpoint[key] for key in WEIGHTS if isinstance(checkpoint.get(key), dict)}
        held = {key: _masked(weights, masks) for key, weights in found.items()}
        self.inner.save_checkpoint({**checkpoint, **held}, *args, **options)

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Read a checkpoint."""
        checkpoint: dict[str, Any] = self.inner.load_checkpoint(*args, **options)
        if self.before_loading is not None:
            self.before_loading(checkpoint)
        return checkpoint

    def remove_checkpoint(self, *args: Any, **options: Any) -> None:
        """Remove a checkpoint."""
        self.inner.remove_checkpoint(*args, **options)

    def teardown(self) -> None:
        """Wait for background work of the inner object."""
        self.inner.teardown()


def mask_checkpoints(trainer: pl.Trainer, network_name: str) -> None:
    """Let ``trainer`` write checkpoints through :class:`MaskedCheckpointIO`, once."""
    strategy = trainer.strategy
    if not isinstance(strategy.checkpoint_io, MaskedCheckpointIO):
        with suppress(TypeError):  # strategies for TPUs accept no other class
            strategy.checkpoint_io = MaskedCheckpointIO(strategy.checkpoint_io, trainer, network_name)


def _masked(weights: dict[str, Any], masks: Masks) -> dict[str, Any]:
    """Return ``weights`` with those that ``masks`` prune at 0; a copy if this changes any."""
    changed = {}
    for name, mask in masks.items():
        value = weights.get(name)
        # Lightning gathers the tensors of a sharded network before it writes one file.
        if isinstance(value, Tensor) and not isinstance(value, DTensor) and value.shape == mask.shape:
            broken = value.ne(0) & ~mask.to(value.device)
            if broken.any():
                changed[name] = value.detach().masked_fill(broken, 0)
    if not changed:
        return weights
    held = copy.copy(weights)
    held.update(changed)
    return held
