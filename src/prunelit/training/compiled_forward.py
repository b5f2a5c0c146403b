"""Run a network as compiled by ``torch.compile``, and with the channels last in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class CompiledForward:
    """Calls a network whose forward pass is compiled, with one compilation for training and one for testing.

    Only the forward pass itself is compiled, and only inside this call. The network stays as it is: scores
    may take second derivatives, names do not change, and hooks of the network, such as those that apply
    masks, run in Python before and after. Masks are applied to the weights in place, so that compiled code
    is valid with any masks.
    """

    def __init__(self) -> None:
        self._compiled: tuple[nn.Module, Callable[..., Any]] | None = None

    def __reduce__(self) -> tuple[type[CompiledForward], tuple[()]]:
        """Copy and pickle without compiled code, which belongs to one network."""
        return type(self), ()

    def __call__(self, network: nn.Module, *inputs: Any) -> Any:
        """Return what ``network`` returns for ``inputs``."""
        with self._in_place_of_forward(network):
            return network(*inputs)

    @contextmanager
    def _in_place_of_forward(self, network: nn.Module) -> Iterator[None]:
        if self._compiled is None or self._compiled[0] is not network:
            self._compiled = network, torch.compile(network.forward)
        own = network.__dict__.get("forward")
        network.__dict__["forward"] = self._compiled[1]
        try:
            yield
        finally:
            if own is None:
                del network.__dict__["forward"]
            else:
                network.__dict__["forward"] = own


def with_channels_last(network: nn.Module) -> None:
    """Keep the weights of 2D and 3D convolutions with the channels last in memory.

    Convolutions whose weights are so return signals that are so. Values and names do not change.
    """
    formats = {4: torch.channels_last, 5: torch.channels_last_3d}
    for parameter in network.parameters():
        if parameter.dim() in formats:
            parameter.data = parameter.data.to(memory_format=formats[parameter.dim()])
