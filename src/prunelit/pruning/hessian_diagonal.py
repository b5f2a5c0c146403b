"""The diagonal of a loss's Hessian, from the graph of its gradient: exact, or estimated."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.masks import Scores
from prunelit.pruning.parameters import Parameters

CHUNK = 2**21
"""The number of elements of Hessian rows in memory at a time."""


def exact_diagonal(gradient: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return the derivative of each element of ``gradient`` by its own parameter."""
    size = parameter.numel()
    diagonal = parameter.new_zeros(size)
    for rows in torch.arange(size, device=parameter.device).split(max(1, min(64, CHUNK // size))):
        units = torch.zeros(len(rows), size, dtype=gradient.dtype, device=gradient.device)
        units[torch.arange(len(rows)), rows] = 1
        units = units.view(-1, *parameter.shape)
        options = {"retain_graph": True, "is_grads_batched": True, "allow_unused": True}
        (products,) = torch.autograd.grad(gradient, parameter, units, **options)
        if products is not None:
            diagonal[rows] = products.flatten(1)[torch.arange(len(rows)), rows]
    return diagonal.view(parameter.shape)


def estimated_diagonal(gradients: Scores, parameters: Parameters, probes: int, seed: int) -> Scores:
    """Return the mean of ``z * (H z)`` over ``probes`` vectors of signs drawn on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    chosen = list(parameters.values())
    total = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
    for _ in range(probes):
        signs = {
            name: (torch.randint(2, p.shape, generator=generator) * 2 - 1).to(p)
            for name, p in parameters.items()
        }
        inner = torch.stack([(signs[name] * g).sum() for name, g in gradients.items()]).sum()
        products = torch.autograd.grad(inner, chosen, retain_graph=True, allow_unused=True)
        for name, product in zip(parameters, products, strict=True):
            if product is not None:
                total[name].add_(signs[name] * product, alpha=1 / probes)
    return total
