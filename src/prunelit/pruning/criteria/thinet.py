"""ThiNet: score(w) = place of its channel in the order in which the next layer misses them least.

Luo, Wu and Lin, ThiNet: a filter level pruning method for deep neural network compression,
https://arxiv.org/abs/1707.06342

An output of layer i+1, less its bias, is a sum over its input channels c, the outputs of layer i:
y = sum of x_c. On sampled outputs of real batches the channels T to remove are chosen one at a
time, the next being the one that leaves least of

    sum over samples of (sum of x_c over c in T)^2.

Any number of the highest scores are thus what greedy selection leaves. Removed are the filter of
layer i, its bias, and its part in the normalisation behind. Linear layers lose neurons in the same
way (Evani, 10-605 Mini Project Pruning). All layers are scored on the same network. A layer stays
whole that is the last one or whose outputs do not lead to one other layer alone, as those that
enter a residual sum.

With ``rescale`` the weights of layer i+1 are at last multiplied, by channel, with the w that has
the least sum of (y - sum of w_c x_c over the kept c)^2 over the samples.
"""

from __future__ import annotations

import logging
from typing import Annotated

import torch
from annotated_types import Ge
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.contributions import gram_matrices, removal_order, rescaling
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Masks, Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.units import Groups, Units, output_units

log = logging.getLogger(__name__)


class ThiNet(Criterion):
    """Places in the order of greedy removal; one forward pass per batch, and C^2 numbers for C channels."""

    needs = "batches"
    unit = "filter"

    @checked
    def __init__(
        self,
        positions: Annotated[
            int, Ge(1), Doc("The number of outputs of the next layer that are drawn from each scoring image.")
        ] = 10,
        rescale: Annotated[
            bool,
            Doc(
                "Multiply the weights of the next layer by one factor per channel, so that its "
                "outputs change least."
            ),
        ] = False,
    ) -> None:
        self.positions, self.rescale = positions, rescale
        self._found: list[tuple[Units, Tensor]] = []

    def groups(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Groups:
        """Return the units of every layer that leads to one other layer alone."""
        groups = Groups.of((u for u in _units(network, objective) if u.next), parameters)
        pruned = {units.layer for units in groups.units}
        for units in _units(network, objective):
            if units.layer not in pruned and units.weight in parameters:
                reason = units.end or units.fault or "some of its units are not prunable"
                log.info("%s keeps all its units: %s", units.layer, reason)
        return groups

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return the place of its unit in the order of removal for every part of it, and 0 for all else."""
        assert objective is not None
        followed = [u for u in _units(network, objective) if u.next and u.weight in parameters]
        channels = {units.next: units.count for units in followed}
        grams = gram_matrices(network, channels, objective, self.positions)
        self._found = [(units, grams[units.next]) for units in followed]
        scores = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in parameters.items()}
        for units, gram in self._found:
            places = torch.full((units.count,), torch.nan, dtype=torch.float64)
            if gram.isfinite().all():
                places[removal_order(gram)] = torch.arange(units.count, dtype=torch.float64)
            scores |= units.spread(places.to(gram.device), parameters)
        return scores

    @torch.no_grad()
    def adjust(self, network: nn.Module, masks: Masks) -> None:
        """Rescale the next layer of every layer that lost units, if requested."""
        found, self._found = self._found, []
        for units, gram in found if self.rescale else []:
            kept = units.by_unit(masks[units.weight]).any(1)
            weight: Tensor = network.get_submodule(units.next).weight  # type: ignore[assignment]
            factors = rescaling(gram, kept).repeat_interleave(weight.shape[1] // units.count)
            weight.mul_(factors.to(weight).view(1, -1, *[1] * (weight.ndim - 2)))


def _units(network: nn.Module, objective: Objective | None) -> list[Units]:
    assert objective is not None
    batch = objective.first_batch()
    return list(output_units(network, lambda: objective.loss(batch)).values())
