"""Network slimming: score(w) = |gamma|, the scale that BatchNorm gives the unit that w is in.

Liu, Li, Shen, Huang, Yan and Zhang, Learning efficient convolutional networks through network slimming,
https://arxiv.org/abs/1708.06519

The scales of several BatchNorms behind one layer are added up. A unit without a BatchNorm is scored by the L2
norm of its weights, divided by the mean norm of its layer: then the mean score of the layer is 1, the
scale that BatchNorm starts from.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from prunelit.pruning.criteria.of_units import OfUnits
from prunelit.pruning.parameters import layer_of
from prunelit.pruning.units import Units


class BNScale(OfUnits):
    """The absolute scale of the BatchNorm behind each unit, in float64."""

    def unit_scores(self, rows: Tensor, units: Units | None, network: nn.Module) -> Tensor:
        """Return ``|gamma|`` of each unit, or its weights' relative norm where there is no BatchNorm."""
        scales = [] if units is None else _scales(units, network)
        if scales:
            return torch.stack(scales).sum(0)
        norms = rows.square().sum(1).sqrt()
        mean = norms.mean()
        return norms / mean if mean > 0 else norms


def _scales(units: Units, network: nn.Module) -> list[Tensor]:
    """Return the absolute scales of the BatchNorms behind a layer."""
    layers = dict.fromkeys(layer_of(name) for name in units.members)
    norms = [norm for n in layers if isinstance(norm := network.get_submodule(n), _NormBase)]
    return [norm.weight.detach().double().abs() for norm in norms if norm.weight is not None]
