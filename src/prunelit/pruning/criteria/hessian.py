"""Hessian: optimal brain damage, score(w) = w^2 * d2L/dw2 / 2.

LeCun, Denker and Solla, Optimal brain damage, Advances in Neural Information Processing Systems 2,
1989, https://proceedings.neurips.cc/paper/1989/hash/6c9882bbac1c7093bd25041881277658-Abstract.html

The change of the mean loss L when w is removed at a minimum, to second order and without cross
terms. The highest are kept: where a diagonal entry is negative the score is negative, and such a
weight is removed before one without curvature. With piecewise linear activations (ReLU, max
pooling) and cross-entropy no entry is. The factor 1/2 changes no order.

The diagonal is exact, by one Hessian-vector product a parameter, or estimated as in Bekas,
Kokiopoulou and Saad, An estimator for the diagonal of a matrix (2007): the mean of z * (H z) over
random vectors z of signs. Its variance for entry j is the sum of H_jk^2 over k != j, divided by
the number of vectors.
"""

from __future__ import annotations

from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Batch, Objective
from prunelit.pruning.parameters import Parameters
from prunelit.request import BadRequest

LARGEST_EXACT = 100_000
"""Parameters up to which the exact diagonal is computed."""

CHUNK = 2**21
"""Elements of Hessian rows that are held at once."""


class Hessian(Criterion):
    """Second-order saliency in float64; per batch one gradient and ``probes`` double-backward passes."""

    needs = "batches"

    @checked
    def __init__(
        self,
        probes: Annotated[
            Annotated[int, Ge(1)] | None,
            Doc(
                "How many random vectors estimate the diagonal; null: the exact diagonal, by one "
                "double-backward pass for each parameter."
            ),
        ] = 100,
    ) -> None:
        self.probes = probes

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``w^2 / 2`` times the diagonal of the mean loss's Hessian."""
        assert objective is not None
        count = sum(p.numel() for p in parameters.values())
        if self.probes is None and count > LARGEST_EXACT:
            allowed = f"an integer >= 1; null only up to {LARGEST_EXACT} prunable parameters"
            raise BadRequest("probes", None, allowed, f"there are {count}")
        seed = int(torch.randint(2**62, ()))  # one for all batches and ranks: each sees the same vectors

        def diagonal(batch: Batch) -> dict[str, Tensor]:
            gradients = objective.batch_gradients(batch, parameters, create_graph=True)
            curved = {name: g for name, g in gradients.items() if g.requires_grad}  # not where L is linear
            if self.probes is None:
                return {name: _exact(g, parameters[name]) for name, g in curved.items()}
            return _estimate(curved, parameters, self.probes, seed) if curved else {}

        found = objective.mean(diagonal, parameters, objective.batches, torch.float64)
        return {name: p.detach().double().square() * found[name] / 2 for name, p in parameters.items()}


def _exact(gradient: Tensor, parameter: nn.Parameter) -> Tensor:
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


def _estimate(gradients: Scores, parameters: Parameters, probes: int, seed: int) -> Scores:
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
