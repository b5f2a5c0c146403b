"""L1 filter pruning: score(w) = sum of |v| over the weights v of the filter that w is in.

Li, Kadav, Durdanovic, Samet and Graf, Pruning filters for efficient ConvNets,
https://arxiv.org/abs/1608.08710

Each convolution keeps the filters of highest norm, ``round(density * filters)`` of them. A filter
goes with its bias and with the scale and shift that BatchNorm gives it: a shift alone would still
be emitted. The weights and biases of linear layers, and those that attention holds itself, are pruned
one by one by magnitude, the same share of each tensor (Evani, 10-605 Mini Project Pruning, algorithm 2).
Normalisation that belongs to no filter stays whole.
"""

from __future__ import annotations

from torch import nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, layer_of
from prunelit.pruning.units import Groups, Units, output_units

LINEAR = (nn.Linear, nn.MultiheadAttention)


class L1Filter(Criterion):
    """The L1 norm of each filter, in float64; one forward pass of one input, without data."""

    needs = "example"
    unit = "filter"

    def groups(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Groups:
        """Return the filters of all convolutions; parameters of linear layers compete one by one."""
        linear = [name for name in parameters if isinstance(_module(network, name), LINEAR)]
        return Groups.of(self._filters(network, objective), parameters, alone=linear)

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return ``sum |w|`` of its filter for every part of a filter, and ``|w|`` for all else."""
        scores = {name: p.detach().abs() for name, p in parameters.items()}
        for filters in self._filters(network, objective):
            if filters.weight in parameters:
                norms = filters.by_unit(parameters[filters.weight].detach().double().abs()).sum(1)
                scores |= filters.spread(norms, parameters)
        return scores

    def _filters(self, network: nn.Module, objective: Objective | None) -> list[Units]:
        assert objective is not None
        example = objective.example(network)
        found = output_units(network, lambda: example.run(network)).values()
        return [units for units in found if not isinstance(network.get_submodule(units.layer), nn.Linear)]


def _module(network: nn.Module, parameter: str) -> nn.Module:
    return network.get_submodule(layer_of(parameter))
