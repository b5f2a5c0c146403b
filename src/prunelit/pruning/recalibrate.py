"""Estimate the statistics of BatchNorm again, for the units that are left after a pruning.

Li, Wu, Su and Wang, EagleEye: fast sub-net evaluation for efficient neural network pruning,
https://arxiv.org/abs/2007.02491
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from prunelit.pruning.call import num_samples
from prunelit.pruning.preserve import modes


def norms_with_statistics(network: nn.Module) -> list[_BatchNorm]:
    """Return the BatchNorm layers of ``network`` that keep running statistics."""
    found = (m for m in network.modules() if isinstance(m, _BatchNorm))
    return [norm for norm in found if norm.track_running_stats and norm.running_mean is not None]


@torch.no_grad()
def recalibrate(network: nn.Module, run: Callable[[Any], Any], batches: Iterable[Any]) -> None:
    """Set the running statistics of BatchNorm to the mean over ``batches``, each with the same weight.

    Only BatchNorm is in train mode; dropout is off. Weights do not change. A batch of a single sample has no
    variance and is left out.

    Args:
        network: its BatchNorm layers are recalibrated in place.
        run: runs the network on a batch.
        batches: at least one; otherwise the statistics stay.
    """
    norms = norms_with_statistics(network)
    usable = [batch for batch in batches if num_samples(batch) > 1]
    if not usable:
        return
    momenta = [norm.momentum for norm in norms]
    with modes(network):
        network.eval()
        for norm in norms:
            norm.train()
            norm.reset_running_stats()
            norm.momentum = None  # the mean of all batches
        try:
            for batch in usable:
                run(batch)
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
