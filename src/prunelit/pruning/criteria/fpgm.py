"""FPGM: score(w) = sum of the distances between the unit that w is in and the other units of its layer.

He, Liu, Wang, Hu and Yang, Filter pruning via geometric median for deep convolutional neural networks
acceleration, https://arxiv.org/abs/1811.00250

A unit near the geometric median of its layer can be replaced by the others, and goes first, however large
its norm. The distances are Euclidean, between the weights of two filters or two neurons without their biases.
Units that were removed before are left out of the sums. The last two units are equally far from each other:
then the norm decides.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.criteria.of_units import OfUnits
from prunelit.pruning.units import Units


class FPGM(OfUnits):
    """The sum of Euclidean distances to the units of the same layer, in float64; C^2 numbers for C units."""

    def unit_scores(self, rows: Tensor, units: Units | None, network: nn.Module) -> Tensor:
        """Return the sum of each unit's distances to all units that are not 0."""
        present = rows[rows.ne(0).any(1)]
        if len(present) < 3:
            return rows.square().sum(1).sqrt()
        # Differences, and not matrix products, so that equal units are at a distance of exactly 0.
        distances = torch.cdist(rows, present, compute_mode="donot_use_mm_for_euclid_dist")
        return distances.sum(1)
