"""What criteria of whole units share: one number for each filter or neuron, for all of its parameters."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.units import Groups, Units, output_units


class OfUnits(Criterion):
    """Scores units by their weights; one forward pass of one input, without data.

    With granularity ``unit`` the units are those of :func:`prunelit.explain`. Otherwise they are the filters
    of all convolutions, and the neurons of linear layers whose outputs lead to one other layer alone.
    """

    needs = "example"
    unit = "filter"
    across_layers = True

    def groups(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Groups:
        """Return the filters and neurons that can be removed; all other parameters stay."""
        found = _units(network, objective)
        linear = {u.layer for u in found if isinstance(network.get_submodule(u.layer), nn.Linear)}
        return Groups.of((u for u in found if u.next or u.layer not in linear), parameters)

    @torch.no_grad()
    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return its unit's score for every part of a unit.

        Other weights are scored by the rows along their first axis, and what is left by ``|w|``.
        """
        scores = {name: self._by_row(p.detach()) for name, p in parameters.items()}
        for units in _units(network, objective):
            if units.weight in parameters:
                rows = units.by_unit(parameters[units.weight].detach()).double()
                scores |= units.spread(self.unit_scores(rows, units, network), parameters)
        return scores

    @abstractmethod
    def unit_scores(self, rows: Tensor, units: Units | None, network: nn.Module) -> Tensor:
        """Return one score for each unit, of shape (count,), in float64.

        Args:
            rows: the weights of each unit, of shape (count, weights of a unit), in float64; those of a unit
                that was removed before are 0.
            units: the layer's units; None for weights that belong to no convolution or linear layer.
            network: the network.
        """

    def _by_row(self, weight: Tensor) -> Tensor:
        if weight.ndim < 2:
            return weight.double().abs()
        shape = [-1, *[1] * (weight.ndim - 1)]
        found = self.unit_scores(weight.double().flatten(1), None, nn.Identity())
        return found.view(shape).expand(weight.shape).clone()


def _units(network: nn.Module, objective: Objective | None) -> list[Units]:
    assert objective is not None
    example = objective.example(network)
    return list(output_units(network, lambda: example.run(network)).values())
