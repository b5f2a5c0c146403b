"""Stacked chains of linear layers, computed as products of batches of matrices without ``torch.vmap``.

For small networks, the rules of ``torch.vmap`` take a considerable part of the time of a step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

ELEMENTWISE = (nn.ReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.ELU, nn.LeakyReLU, nn.Identity)
Forward = Callable[[dict[str, Tensor], dict[str, Tensor], Tensor], Tensor]
"""Maps stacked parameters and buffers, and images (runs, n, ...), to logits (runs, n, classes)."""


def forward_of_chain(network: nn.Module) -> Forward | None:
    """Return the forward pass of the stack if ``network`` is a chain; None if it is not one.

    A chain flattens its images and then applies linear layers and elementwise functions one after the other.
    """
    layers = list(network.named_children())
    is_plain = isinstance(network, nn.Sequential) and type(network).forward is nn.Sequential.forward
    if not is_plain or not layers or not _is_flatten(layers[0][1]):
        return None
    if not all(type(layer) in (nn.Linear, *ELEMENTWISE) for _, layer in layers[1:]):
        return None

    def forward(parameters: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor) -> Tensor:
        found = images.flatten(2)
        for name, layer in layers[1:]:
            if isinstance(layer, nn.Linear):
                weight, bias = parameters[f"{name}.weight"], parameters.get(f"{name}.bias")
                found = _StackedLinear.apply(found, weight, bias)
            else:
                found = layer(found)
        return found

    return forward


def _is_flatten(layer: nn.Module) -> bool:
    return type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1)


class _StackedLinear(Function):
    """(runs, n, inputs), (runs, outputs, inputs), (runs, outputs) or None -> (runs, n, outputs).

    The gradients of weights have the memory layout of the weights, so that no optimizer has to copy them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if bias is None:
            return torch.bmm(x, weight.transpose(1, 2))
        return torch.baddbmm(bias[:, None], x, weight.transpose(1, 2))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            torch.bmm(gradient, weight) if of_x else None,
            torch.bmm(gradient.transpose(1, 2), x) if of_weight else None,
            gradient.sum(1) if of_bias else None,
        )
