"""The masks that a network has from earlier prunings."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.masks import Masks, attached
from prunelit.pruning.parameters import Parameters


def starting_masks(network: nn.Module, parameters: Parameters) -> Masks:
    """Return the masks of an earlier pruning of ``network``; everything else is kept.

    A mask of another shape belongs to a layer that was replaced since, and is ignored.
    """
    masks = {name: _full_mask(p) for name, p in parameters.items()}
    for name, mask in (attached(network) or {}).items():
        if name in masks and masks[name].shape == mask.shape:
            masks[name] = mask.to(masks[name].device)
    return masks


def _full_mask(parameter: nn.Parameter) -> Tensor:
    """Return a mask that keeps everything and takes no memory: its elements are one and the same."""
    return torch.ones((), dtype=torch.bool, device=parameter.device).expand(parameter.shape)


def all_masked(network: nn.Module) -> tuple[Parameters, Masks]:
    """Return all parameters with their names, and the masks of this and of earlier prunings."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    earlier = attached(network) or {}
    return parameters, starting_masks(network, {n: p for n, p in parameters.items() if n in earlier})
