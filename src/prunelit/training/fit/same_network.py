"""Detect whether a fit continues with the network that a callback has pruned, or starts with another one."""

from __future__ import annotations

import hashlib

import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import nn
from torch.nn.parameter import UninitializedParameter

from prunelit.pruning.masks import Masks, attached, detach
from prunelit.training.parallel.sharding import whole


def fingerprint(network: nn.Module) -> str:
    """Return a SHA-256 of all parameters, including names, independent of the device."""
    sha = hashlib.sha256()
    for name, parameter in network.named_parameters():
        sha.update(name.encode())
        if isinstance(parameter, UninitializedParameter):
            continue
        values = whole(parameter.detach()).cpu().contiguous()
        sha.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return sha.hexdigest()


def fitting(network: nn.Module, masks: Masks) -> Masks:
    """Return the ``masks`` for which ``network`` has a parameter of the same name and shape."""
    shapes = {name: p.shape for name, p in network.named_parameters(remove_duplicate=False)}
    return {name: mask for name, mask in masks.items() if shapes.get(name) == mask.shape}


def is_masked(network: nn.Module, masks: Masks) -> bool:
    """Return whether every weight that ``masks`` prune is 0 in ``network``."""
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, mask in masks.items():
        values = whole(parameters[name].detach())
        if values[~mask.to(values.device)].any():
            return False
    return True


def prunes(masks: Masks) -> bool:
    """Return whether ``masks`` remove any weight."""
    return not all(bool(mask.all()) for mask in masks.values())


def remember(network: nn.Module, masks: Masks) -> str:
    """Return what :func:`goes_on` needs to recognize ``network``, with the same ``masks``."""
    return "" if prunes(masks) else fingerprint(network)


def goes_on(network: nn.Module, masks: Masks, remembered: str) -> bool:
    """Return whether ``network`` is the one that was trained and pruned before, or a copy of it.

    It is if its pruned weights are 0. If none are pruned, it is if all its weights equal those at the end of
    the last fit. A module whose weights were reset is another network.

    Args:
        network: the network at the beginning of a fit.
        masks: the masks of the network; empty if pruned weights may become nonzero.
        remembered: the result of :func:`remember` at the end of the last fit; empty before the first one.
    """
    if prunes(masks):
        return len(fitting(network, masks)) == len(masks) and is_masked(network, masks)
    return bool(remembered) and fingerprint(network) == remembered


def drop_outdated_masks(network: nn.Module) -> None:
    """Discard masks of an earlier pruning of ``network`` if its weights were reset since.

    This happens if a fold of a cross-validation starts with the initial weights of the same module. Otherwise
    its pruning would be limited to what the last fold kept.
    """
    if not is_masked(network, fitting(network, attached(network) or {})):
        detach(network)
        rank_zero_warn(
            "weights that an earlier pruning of this network removed are no longer 0, so it counts as a new "
            "network: the masks of the earlier pruning are discarded, and all weights can be kept"
        )
