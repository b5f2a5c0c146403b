"""Draw the weights of a network again."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


@torch.no_grad()
def reset_parameters(network: nn.Module) -> None:
    """Draw all parameters again by the network's own ``reset_parameters``, or else by its modules'.

    Inner modules come first, so that what an outer one does to them lasts.

    Raises:
        ValueError: no module of the network knows how.
    """
    modules = [network] if hasattr(network, "reset_parameters") else reversed(list(network.modules()))
    resets: list[Callable[[], None]] = [
        getattr(module, "reset_parameters") for module in modules if hasattr(module, "reset_parameters")
    ]
    if not resets:
        raise ValueError("reinitialize: no module of the network has a reset_parameters() method")
    for reset in resets:
        reset()
