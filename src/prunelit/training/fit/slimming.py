"""Network slimming: an L1 penalty on the scales of BatchNorm while the network trains up to its pruning.

Liu, Li, Shen, Huang, Yan and Zhang, Learning efficient convolutional networks through network slimming,
https://arxiv.org/abs/1708.06519
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import Optimizer

from prunelit.notice import warn


def scales_of(network: nn.Module) -> list[nn.Parameter]:
    """Return the scales of all BatchNorm layers of ``network``."""
    norms = (module for module in network.modules() if isinstance(module, _BatchNorm))
    return [norm.weight for norm in norms if norm.weight is not None]


def check_slimming(network: nn.Module, penalty: float) -> None:
    """Warn if no scale of ``network`` is penalized."""
    if not scales_of(network):
        name = type(network).__name__
        warn(f"slimming={penalty:g} changes nothing: {name} has no BatchNorm with a scale")


@torch.no_grad()
def penalize_scales(network: nn.Module, optimizer: Optimizer, penalty: float) -> None:
    """Add the gradient of ``penalty * sum |gamma|`` to those of the scales that ``optimizer`` updates.

    It is ``penalty * sign(gamma)``, and 0 for a scale that is 0.
    """
    updated = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for scale in scales_of(network):
        if id(scale) in updated and scale.grad is not None:
            scale.grad.add_(scale.sign(), alpha=penalty)
