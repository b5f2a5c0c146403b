"""Which groups of units are of one kind: their units have parts in the same types of layers.

Fang, Ma, Mi and Wang, Isomorphic pruning for vision models (ECCV 2024), https://arxiv.org/abs/2407.04616
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import nn

from prunelit.pruning.coupling.groups import Group, Member

Kind = tuple[tuple[str, str, int, str], ...]
"""For each part of a unit: the type of the layer, the parameter's own name, the axis, and the role."""


def kind_of(group: Group, network: nn.Module) -> Kind:
    """Return the kind of a group: what its units share with the units of groups of the same kind.

    Two groups are of one kind, whatever their widths, if each part of one has a counterpart in the other: the
    same parameter of a layer of the same type, along the same axis and in the same role. Convolutions in
    groups, such as depthwise ones, are a type of their own.
    """
    return tuple(sorted(_part(member, network) for member in group.members))


def alike(groups: Iterable[Group], network: nn.Module) -> tuple[tuple[str, ...], ...]:
    """Return the names of the groups of each kind, in the order of the first of each."""
    found: dict[Kind, list[str]] = {}
    for group in groups:
        found.setdefault(kind_of(group, network), []).append(group.name)
    return tuple(map(tuple, found.values()))


def _part(member: Member, network: nn.Module) -> tuple[str, str, int, str]:
    path, _, own_name = member.name.rpartition(".")
    layer: Any = network.get_submodule(path)
    groups = getattr(layer, "groups", 1)
    in_groups = " in groups" if isinstance(groups, int) and groups > 1 else ""
    return type(layer).__name__ + in_groups, own_name, member.axis, member.role
