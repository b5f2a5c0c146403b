"""Which units of a pruned network have no effect any more."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.coupling.groups import CoupledUnits, Group, Kept, Member
from prunelit.pruning.masks import Masks


@torch.no_grad()
def units_with_effect(network: nn.Module, coupled: CoupledUnits) -> Kept:
    """Return which units stay, for each group that loses some; at least one unit of each group stays.

    A unit is without effect if all its parameters are 0; if all that makes it is 0 and it then is 0
    wherever it is used; or if every weight that it is multiplied by is 0. One removal may allow others.
    """
    parameters = dict(network.named_parameters())
    groups = [g for g in coupled.prunable if any(m.name in parameters for m in g.members)]
    used = {m.name: parameters[m.name].ne(0) for g in groups for m in g.members if m.name in parameters}
    kept = {g.name: torch.ones(g.units, dtype=torch.bool) for g in groups}
    waiting = list(groups)
    while waiting:
        changed: set[str] = set()
        for group in waiting:
            stays = kept[group.name] & _has_effect(group, used)
            if not stays.any():
                stays[kept[group.name].nonzero()[0]] = True
            if torch.equal(stays, kept[group.name]):
                continue
            kept[group.name] = stays
            for member in group.members:
                if member.name in used:
                    gone = (~member.along(stays)).nonzero()[:, 0]
                    used[member.name].index_fill_(member.axis, gone.to(used[member.name].device), False)
                    changed.add(member.name)
        waiting = [g for g in groups if any(m.name in changed for m in g.members)]
    return {name: mask for name, mask in kept.items() if not bool(mask.all())}


def _has_effect(group: Group, used: dict[str, Tensor]) -> Tensor:
    sources = _any(group, used, "source")
    sinks = _any(group, used, "sink")
    effect = sources | sinks
    if group.silent and _decide(group, used, "source"):
        effect &= sources
    if group.heard_by_sinks and _decide(group, used, "sink"):
        effect &= sinks
    return effect


def _decide(group: Group, used: dict[str, Tensor], role: str) -> bool:
    """Return whether the group has members of this role, all of which are parameters.

    In a product of a weight and a constant, such as a table of positions, a unit has no sink. What a buffer
    adds is not among the parameters.
    """
    members = [m.name in used for m in group.members if m.role == role]
    return bool(members) and all(members)


def _any(group: Group, used: dict[str, Tensor], role: str) -> Tensor:
    """Return which units have anything but 0 in their members of this role."""
    found = torch.zeros(group.units, dtype=torch.bool)
    for member in group.members:
        if member.role == role and member.name in used:
            found |= _by_unit(member, used[member.name], group.units)
    return found


def _by_unit(member: Member, used: Tensor, units: int) -> Tensor:
    along = used.movedim(member.axis, 0).flatten(1).any(1) if used.ndim > 1 else used
    along = along.cpu() & (member.unit_of >= 0)
    found = torch.zeros(units, dtype=torch.bool)
    found[member.unit_of[along]] = True
    return found


def units_kept_by_masks(coupled: CoupledUnits, masks: Masks) -> Kept:
    """Return which units stay, for each group that loses some; at least one unit of each group stays.

    A unit goes if ``masks`` remove all its prunable parts and these decide its effect. The values of weights
    play no part: a weight that happens to be 0 may become another number in training.
    """
    kept = units_cut_by_masks(coupled, masks)
    for group in coupled.prunable:
        sources = [m.name in masks for m in group.members if m.role == "source"]
        sinks = [m.name in masks for m in group.members if m.role == "sink"]
        if not sources or not all(sources) or not (group.silent or all(sinks)):
            continue
        stays = torch.zeros(group.units, dtype=torch.bool)
        for member in group.members:
            if member.name in masks:
                stays |= _by_unit(member, masks[member.name], group.units)
        if not stays.any():
            stays[0] = True
        if not stays.all():
            kept[group.name] = stays
    return kept


def units_cut_by_masks(coupled: CoupledUnits, masks: Masks) -> Kept:
    """Return which units stay, for each group that loses units for which zeros do not stand.

    Only a pruning with ``cut_normalized`` removes every parameter of such a unit.
    """
    kept = {}
    for group in coupled.groups:
        if group.prunable and not group.exact_when_masked:
            parts = [m for m in group.members if not _is_buffer(coupled, m)]
            if not parts or any(m.name not in masks for m in parts):
                continue
            stays = torch.stack([_by_unit(m, masks[m.name], group.units) for m in parts]).any(0)
            if stays.any() and not stays.all():
                kept[group.name] = stays
    return kept


def _is_buffer(coupled: CoupledUnits, member: Member) -> bool:
    assert coupled.resolved is not None
    return coupled.resolved.axes[member.name, member.axis].is_buffer
