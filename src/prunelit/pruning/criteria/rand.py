"""Random pruning: score(w) drawn uniformly from [0, 1), independent of the network.

The baseline of every comparison, among others in Tanaka et al., https://arxiv.org/abs/2006.05467.
"""

from __future__ import annotations

import torch
from torch import nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.finite_scores import check_finite
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class Rand(Criterion):
    """Scores drawn on the CPU in float64, so that they are the same on every device and hardly tie."""

    reads_only = True

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return uniform random scores from the global random state of the CPU.

        Raises:
            NonFiniteScores: a weight is NaN or infinite, as for the criteria that read the weights.
        """
        check_finite(parameters, "weights")
        return {
            name: torch.rand(p.shape, dtype=torch.float64, device="cpu").to(p.device)
            for name, p in parameters.items()
        }
