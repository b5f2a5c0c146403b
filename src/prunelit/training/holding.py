"""Hold masks on the parameters of a network while it trains."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunelit.pruning.masks import Masks, apply_masks, apply_masks_to_gradients, attach, attached, bit_masks
from prunelit.pruning.parameters import Parameters
from prunelit.training.sharding import shard_like


class Hold:
    """Keeps pruned weights at exactly 0, whatever the optimizers do.

    Attributes:
        parameters: those of the network held, by name; empty while none is.
    """

    def __init__(self) -> None:
        self.parameters: Parameters = {}
        self._masks: Masks = {}
        self._hooks: list[RemovableHandle] = []

    def take(self, network: nn.Module, masks: Masks, optimizers: list[Optimizer]) -> None:
        """Zero what ``masks`` prune, now and after every step of ``optimizers``; note them on ``network``.

        Masks that an earlier pruning left on other parameters are held as well.
        """
        attach(network, masks)
        self.watch(network)
        every = {name: mask for name, mask in (attached(network) or {}).items() if name in self.parameters}
        every = {name: shard_like(mask, self.parameters[name]) for name, mask in every.items()}
        self._masks = bit_masks(self.parameters, every)
        self._after_step()
        if not self._hooks:
            self._hooks = [optimizer.register_step_post_hook(self._after_step) for optimizer in optimizers]

    def watch(self, network: nn.Module) -> None:
        """Note the parameters of ``network``, and hold nothing."""
        self.parameters = dict(network.named_parameters(remove_duplicate=False))
        self._masks = {}

    def clear_gradients(self) -> None:
        """Zero the gradients of pruned weights."""
        apply_masks_to_gradients(self.parameters, self._masks)

    def release(self) -> None:
        """Let go of parameters and optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks, self.parameters, self._masks = [], {}, {}

    def _after_step(self, *_: Any) -> None:
        apply_masks(self.parameters, self._masks)
