"""SNIP: connection sensitivity, score(w) = |w * dL/dw|.

Lee, Ajanthan and Torr, SNIP: single-shot network pruning based on connection sensitivity,
https://arxiv.org/abs/1810.02340

The sensitivity of the loss L to a gate c on each connection, |dL(c * w)/dc| at c = 1. L is the
mean loss over all given samples. The paper divides by the sum of all scores, which changes no
order and is left out.
"""

from __future__ import annotations

from torch import nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class SNIP(Criterion):
    """Connection sensitivity; one forward and backward pass per batch."""

    needs = "batches"

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|w * dL/dw|`` with L the mean loss over the objective's batches."""
        assert objective is not None
        gradients = objective.gradients(parameters)
        return {name: (p.detach() * gradients[name]).abs_() for name, p in parameters.items()}
