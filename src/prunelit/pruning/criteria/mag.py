"""Magnitude pruning: score(w) = |w|.

Han, Pool, Tran and Dally, Learning both weights and connections for efficient neural networks,
https://arxiv.org/abs/1506.02626
"""

from __future__ import annotations

from torch import nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class Mag(Criterion):
    """Absolute value of each weight; needs no data."""

    reads_only = True

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``|w|``."""
        return {name: p.detach().abs() for name, p in parameters.items()}
