"""``HoldMasks``: the callback that continues to train a pruned network without pruning it further."""

from __future__ import annotations

from collections.abc import Mapping

import lightning.pytorch as pl
from torch import Tensor, nn

from prunelit.pruning.criteria import Rand
from prunelit.pruning.masks import Masks, apply_masks, attach, attached
from prunelit.request import BadRequest
from prunelit.training.callback import Pruning


class HoldMasks(Pruning):
    """Apply the masks of an earlier pruning during ``fit``; nothing more is pruned.

        Trainer(callbacks=[HoldMasks(load_file("masks.safetensors"))]).fit(module, loader)

    Args:
        masks: masks by parameter name, where True is kept; None: masks of an earlier pruning in this process.
        network: dotted name of the submodule that the masks belong to; empty: the whole LightningModule.
    """

    def __init__(self, masks: Mapping[str, Tensor] | None = None, *, network: str = "") -> None:
        super().__init__(Rand(), compression=0.0, network=network)
        self.steps = []
        self._given = masks

    def settings(self) -> dict[str, str]:
        """Return nothing, because the masks come from a pruning with settings of its own."""
        return {}

    def check(self, network: nn.Module) -> None:
        """Raise BadRequest if there are no masks, or if one matches no parameter."""
        masks = self._given if self._given is not None else attached(network) or {}
        if not masks:
            raise BadRequest("masks", None, "masks by parameter name, or a network that was pruned before")
        shapes = {name: p.shape for name, p in network.named_parameters(remove_duplicate=False)}
        for name, mask in masks.items():
            if shapes.get(name) != mask.shape:
                raise BadRequest("masks", f"{name} {tuple(mask.shape)}", "masks of the network's parameters")

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Attach the masks to the network."""
        if self._given is not None:
            network = self.network(pl_module)
            self.check(network)
            masks = {name: mask.bool() for name, mask in self._given.items()}
            attach(network, masks)
            apply_masks(dict(network.named_parameters(remove_duplicate=False)), masks)
        super().on_fit_start(trainer, pl_module)

    def earlier_masks(self, network: nn.Module) -> Masks:
        """Return all masks attached to ``network``."""
        return dict(attached(network) or {})
