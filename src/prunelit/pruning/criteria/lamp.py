"""LAMP: score(w) = w^2 / sum of v^2 over the weights v of its layer that are not smaller.

Lee, Park, Mo, Ahn and Shin, Layer-adaptive sparsity for the magnitude-based pruning,
https://arxiv.org/abs/2010.07611

The paper sorts the weights of a layer. If two are equal, only one counts in the sum of the other: here the
first in row-major order counts as the larger. Within a layer, weights are ranked by magnitude, and the
largest weight of every layer scores 1. Weights that are 0 score 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class LAMP(Criterion):
    """Magnitude relative to the larger weights of the same tensor, in float64; one sort per tensor, no
    data."""

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``w^2 / sum(v^2 for v in the layer if |v| >= |w|)``."""
        return {name: _lamp(p.detach()) for name, p in parameters.items()}


def _lamp(weights: Tensor) -> Tensor:
    magnitudes = weights.flatten().abs().double()
    magnitudes /= magnitudes.max().clamp_min(torch.finfo(torch.float64).tiny)  # squares stay in range
    squares, order = magnitudes.square().sort(descending=True, stable=True)
    scores = torch.empty_like(squares)
    scores[order] = squares / squares.cumsum(0).clamp_min(torch.finfo(torch.float64).tiny)
    return scores.view(weights.shape)
