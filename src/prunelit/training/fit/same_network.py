"""Tell whether a fit goes on with the network that a callback has pruned, or begins with another one."""

from __future__ import annotations

import hashlib

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.nn.parameter import UninitializedParameter

from prunelit.pruning.masks import Masks, attached, detach
from prunelit.training.parallel.sharding import whole


def fingerprint(network: nn.Module) -> str:
    """Return a SHA-256 of all parameters, names included, whatever their device."""
    sha = hashlib.sha256()
    for name, parameter in network.named_parameters():
        sha.update(name.encode())
        if isinstance(parameter, UninitializedParameter):
            continue
        values = whole(parameter.detach()).cpu().contiguous()
        sha.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def fitting(network: nn.Module, masks: Masks) -> Masks:
    """Return those of ``masks`` for which ``network`` has a parameter of their name and shape."""
    shapes = {name: p.shape for name, p in network.named_parameters(remove_duplicate=False)}
    return {name: mask for name, mask in masks.items() if shapes.get(name) == mask.shape}


def is_masked(network: nn.Module, masks: Masks) -> bool:
    """Tell whether every weight that ``masks`` prune is 0 in ``network``."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        values = whole(parameters[name].detach())
        if values[~mask.to(values.device)].any():
            return False
    return True


def prunes(masks: Masks) -> bool:
    """Tell whether ``masks`` remove any weight."""
    return not all(bool(mask.all()) for mask in masks.values())


def remember(network: nn.Module, masks: Masks) -> str:
    """Return what :func:`goes_on` needs, with the same ``masks``, to know ``network`` again."""
    return "" if prunes(masks) else fingerprint(network)


def goes_on(network: nn.Module, masks: Masks, remembered: str) -> bool:
    """Tell whether ``network`` is the one that was trained and pruned before, or a copy of it.

    It is if its pruned weights are 0; where none are pruned, if all its weights are what they were at
    the end of the last fit. A module whose weights were set again is another network.

    Args:
        network: the network at the beginning of a fit.
        masks: those that hold on the network; empty where pruned weights may grow back.
        remembered: what :func:`remember` gave at the end of the last fit; empty before the first one.
    """
    if prunes(masks):
        return len(fitting(network, masks)) == len(masks) and is_masked(network, masks)
    return bool(remembered) and fingerprint(network) == remembered


def drop_outdated_masks(network: nn.Module) -> None:
    """Forget masks that an earlier pruning left on ``network`` if its weights were set again since.

    That is so when a fold of a cross-validation begins with the first weights of the same module. Its
    pruning would otherwise be limited to what the last fold kept.
    """
    if not is_masked(network, fitting(network, attached(network) or {})):
        detach(network)
        rank_zero_warn(
            "weights that an earlier pruning of this network removed are no longer 0, so it counts as a new "
            "network: the masks of the earlier pruning are dropped, and all weights can be kept"
        )
