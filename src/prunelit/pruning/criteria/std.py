"""Magnitude in standard deviations: score(w) = |w| / (factor * std), to be kept from 1 on.

Evani, 10-605 Mini Project Pruning, algorithm 1, after Han, Pool, Tran and Dally, Learning both weights
and connections for efficient neural networks, https://arxiv.org/abs/1506.02626

std is the standard deviation (of a population) of all prunable weights, or of the weight's own
layer; pruned weights count as 0. With ``threshold=1`` weights smaller than ``factor`` standard
deviations are removed.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from annotated_types import Gt
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class Std(Criterion):
    """Magnitude over ``factor`` standard deviations, of all weights (``global``) or of each layer's."""

    @checked
    def __init__(
        self,
        factor: Annotated[
            float, Gt(0), Doc("The magnitude of a weight with score 1, in standard deviations.")
        ] = 0.5,
        scope: Annotated[
            Literal["global", "layer"],
            Doc(
                "Whether the standard deviation is computed over all weights (global) or over the "
                "weights of each layer (layer)."
            ),
        ] = "global",
    ) -> None:
        self.factor, self.scope = factor, scope

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|w| / (factor * std)``; 0 where all weights are equal."""
        weights = {name: p.detach().double() for name, p in parameters.items()}
        whole = torch.cat([w.flatten() for w in weights.values()])
        return {name: self._scaled(w, w if self.scope == "layer" else whole) for name, w in weights.items()}

    def _scaled(self, weight: Tensor, group: Tensor) -> Tensor:
        deviation = group.std(correction=0)
        return weight.abs() / (self.factor * deviation) if deviation > 0 else torch.zeros_like(weight)
