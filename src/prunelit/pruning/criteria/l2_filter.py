"""L2 norm of units: score(w) = sum of v^2 over the weights v of the unit that w is in.

He, Kang, Dong, Fu and Yang, Soft filter pruning for accelerating deep convolutional neural networks,
https://arxiv.org/abs/1808.06866; of coupled layers: Fang, Ma, Song, Mi and Wang, DepGraph: towards any
structural pruning, https://arxiv.org/abs/2301.12900

No root is taken, which leaves the order within a layer as it is: where several layers lose a unit together,
the sum of their scores is the squared norm of all weights that make the unit.
"""

from __future__ import annotations

from torch import Tensor, nn

from prunelit.pruning.criteria.of_units import OfUnits
from prunelit.pruning.units import Units


class L2Filter(OfUnits):
    """The squared L2 norm of each unit's weights, in float64."""

    def unit_scores(self, rows: Tensor, units: Units | None, network: nn.Module) -> Tensor:
        """Return the sum of the squares of each unit's weights."""
        return rows.square().sum(1)
