"""Taylor: first-order importance, score(w) = mean over mini-batches of (w * dL/dw)^2.

Molchanov, Mallya, Tyree, Frosio and Kautz, Importance estimation for neural network pruning,
https://arxiv.org/abs/1906.10771

w * dL/dw is the change of the loss L when w is removed, to first order, with L the mean loss of
one mini-batch; its square is averaged over the mini-batches, each by its number of samples. With
one batch this is SNIP's score squared, and the order is the same. With several, a gradient that
changes its sign from batch to batch cancels out for SNIP but not here.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Batch, Objective
from prunelit.pruning.parameters import Parameters


class Taylor(Criterion):
    """First-order Taylor importance in float64; one forward and backward pass per batch."""

    needs = "batches"

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return the mean over batches of ``(w * dL/dw)^2``."""
        assert objective is not None

        def squares(batch: Batch) -> dict[str, Tensor]:
            gradients = objective.batch_gradients(batch, parameters)
            # Squares of small float32 numbers would become 0.
            return {name: (p.detach().double() * gradients[name]).square_() for name, p in parameters.items()}

        return objective.mean(squares, parameters, objective.batches, torch.float64)
