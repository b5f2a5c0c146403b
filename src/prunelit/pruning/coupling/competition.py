"""The competition among units that are pruned: one score for each unit of each group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import gcd

import torch
from torch import Tensor, nn

from prunelit.pruning.coupling.coupled_units import coupled_units
from prunelit.pruning.coupling.groups import CoupledUnits, Group, Member
from prunelit.pruning.coupling.isomorphic import alike
from prunelit.pruning.coupling.trace import NotTraced
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Masks, Scores, count_all
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.plan import Plan
from prunelit.pruning.ties import Ties
from prunelit.request import BadRequest


@dataclass(frozen=True)
class Competition:
    """The groups that lose units, and how the scores of single parameters become scores of units.

    Attributes:
        groups: the groups that are pruned.
        coupled: all groups of the network.
        combine: how the scores of a unit's parts become one: ``sum``, ``mean`` or ``max`` over the members.
        normalize: the divisor of the scores of a group: their ``mean``, their ``max``, or ``none``.
        of_filters: whether each score already belongs to a whole unit.
        round_to: the remaining widths are multiples of this number.
        alike: the names of the groups of each kind, which compete with scope ``isomorphic``.
    """

    groups: tuple[Group, ...]
    coupled: CoupledUnits
    combine: str = "sum"
    normalize: str = "mean"
    of_filters: bool = False
    round_to: int = 1
    alike: tuple[tuple[str, ...], ...] = ()

    @classmethod
    def among(cls, coupled: CoupledUnits, parameters: Parameters, **options: object) -> Competition:
        """Return the competition of the groups that only have prunable parts."""
        chosen = tuple(g for g in coupled.prunable if _is_prunable(g, parameters))
        return replace(cls(chosen, coupled), **options)  # type: ignore[arg-type]

    def gather(self, scores: Scores) -> Scores:
        """Return one score for each unit, by the name of its group."""
        return {group.name: self._scores(group, scores) for group in self.groups}

    def alive(self, masks: Masks) -> Masks:
        """Return which units have a part left."""
        found = {}
        for group in self.groups:
            parts = [_by_unit(m, masks[m.name], group.units, "max") for m in _counted(group, masks)]
            found[group.name] = torch.stack(parts).any(0)
        return found

    def spread(self, kept: Masks, previous: Masks) -> Masks:
        """Return the masks of all parameters: ``previous``, less the units not ``kept``."""
        masks = {name: mask.clone() for name, mask in previous.items()}
        for group in self.groups:
            for member in group.members:
                if member.name in masks:
                    gone = (~member.along(kept[group.name])).nonzero()[:, 0]
                    masks[member.name].index_fill_(member.axis, gone, False)
        return masks

    def choose(
        self, plan: Plan, scores: Scores, density: float | None, alive: Masks, ties: Ties | None = None
    ) -> Masks:
        """Return the units that ``plan`` keeps, in widths that are multiples of ``round_to``.

        With scope ``isomorphic`` the groups of each kind keep the share ``density`` of their units, and all
        units of these groups compete.
        """
        if plan.scope != "isomorphic":
            return self.rounded(plan.masks(scores, density, alive, ties), scores, alive)
        plan, kept = replace(plan, scope="global"), Masks()
        for names in self.alike:
            own = {name: scores[name] for name in names}
            fewest = sum(min(plan.keep_at_least, int(alive[name].sum())) for name in names)
            share = None if density is None else max(density, fewest / count_all(own))
            kept |= plan.masks(own, share, {name: alive[name] for name in names}, ties)
        return self.rounded({name: kept[name] for name in scores}, scores, alive)

    def rounded(self, kept: Masks, scores: Scores, previous: Masks) -> Masks:
        """Return masks of units with which all widths are multiples of ``round_to``, the nearest ones.

        A group with fewer positions than that stays whole.
        """
        if self.round_to == 1:
            return kept
        found = {}
        for group in self.groups:
            step = self.step(group.name)
            mask, alive = kept[group.name], previous[group.name]
            count = max(step, step * int(int(mask.sum()) / step + 0.5))
            count = min(count, int(alive.sum()))
            order = scores[group.name].double().masked_fill(~alive, -torch.inf)
            best = order.argsort(descending=True, stable=True)[:count]
            found[group.name] = torch.zeros_like(mask)
            found[group.name][best] = True
        return found

    def step(self, name: str) -> int:
        """Return the number of units of a group that change its width by a multiple of ``round_to``."""
        group = next(group for group in self.groups if group.name == name)
        width = group.members[0].positions // group.units or 1
        return self.round_to // gcd(self.round_to, width)

    def _scores(self, group: Group, scores: Scores) -> Tensor:
        members = _counted(group, scores)
        if self.of_filters:
            weights = [m for m in members if m.role == "source" and scores[m.name].ndim > 1]
            parts = [_by_unit(m, scores[m.name], group.units, "mean") for m in weights or members]
        else:
            parts = [_by_unit(m, scores[m.name], group.units, "sum") for m in members]
        stacked = torch.stack(parts)
        total = {"sum": stacked.sum(0), "mean": stacked.mean(0), "max": stacked.amax(0)}[self.combine]
        if self.normalize == "none":
            return total
        size = total.abs().mean() if self.normalize == "mean" else total.abs().max()
        return total / size if bool(size > 0) else total


def _is_prunable(group: Group, parameters: Parameters) -> bool:
    """Return whether a unit is without effect once its prunable parts are 0, or all its parts are cut out."""
    if not group.exact_when_masked and any(
        m.name not in parameters for m in group.members if m.role != "idle"
    ):
        return False
    sources = all(m.name in parameters for m in group.members if m.role == "source")
    sinks = all(m.name in parameters for m in group.members if m.role == "sink")
    has_sources = any(m.role == "source" for m in group.members)
    return sources and has_sources and (group.silent or sinks)


def _counted(group: Group, tensors: Mapping[str, Tensor]) -> list[Member]:
    """Return the members whose values contribute to the score of a unit."""
    known = [m for m in group.members if m.name in tensors]
    return [m for m in known if m.role != "idle"] or known


def _by_unit(member: Member, values: Tensor, units: int, how: str) -> Tensor:
    """Return the sum, the mean or the maximum of the values of each unit's positions, in float64."""
    if values.dtype == torch.bool:
        along = values.movedim(member.axis, 0).flatten(1).any(1) if values.ndim > 1 else values
        found = torch.zeros(units, dtype=torch.bool, device=values.device)
        found[member.unit_of.to(values.device)[along & (member.unit_of >= 0).to(values.device)]] = True
        return found
    along = values.detach().double()
    if along.ndim > 1:
        along = along.movedim(member.axis, 0).flatten(1).sum(1)
    inside = (member.unit_of >= 0).to(values.device)
    places = member.unit_of.to(values.device)[inside]
    total = torch.zeros(units, dtype=torch.float64, device=values.device)
    total.index_add_(0, places, along[inside])
    if how == "mean":
        each = values.numel() / values.shape[member.axis]
        total = total / (torch.bincount(places, minlength=units).clamp(min=1) * each)
    return total


def competition(
    network: nn.Module,
    criterion: Criterion,
    parameters: Parameters,
    objective: Objective | None,
    plan: Plan,
    cut_normalized: bool = False,
) -> Competition:
    """Return the competition among the whole units of ``network``.

    ``cut_normalized``: also units that can be cut out, but not masked.

    Raises:
        BadRequest: nothing can be removed, or the network cannot be followed.
        ValueError: there is no example input.
    """
    plan.check_units()
    if objective is None or not objective.has_example:
        raise ValueError(
            "granularity='unit' needs inputs of the network: pass objective=Objective(inputs=(images,))"
        )
    try:
        coupled = coupled_units(network, objective.example(network), cut_normalized)
    except NotTraced as error:
        raise BadRequest("granularity", "unit", "weight", str(error)) from error
    found = Competition.among(
        coupled,
        parameters,
        combine=plan.unit_scores,
        normalize=plan.normalize,
        of_filters=criterion.unit == "filter",
        round_to=plan.round_to,
    )
    if not found.groups:
        raise BadRequest(
            "granularity", "unit", "weight", f"no unit of {type(network).__name__} can be removed"
        )
    return replace(found, alike=alike(found.groups, network))
