"""Which units of which parameters can only be removed together."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call, num_samples
from prunelit.pruning.coupling.ledger import Ledger, Numbers, Reason, Resolved
from prunelit.pruning.coupling.marked import Literal
from prunelit.pruning.coupling.trace import NotTraced, Trace, traced
from prunelit.pruning.coupling.walk import Walk

Kept = dict[str, Tensor]
"""The units that stay: bool of shape (units,), by the group's name."""


@dataclass(frozen=True)
class Member:
    """The part that a group's units have in one parameter or buffer.

    Attributes:
        name: full name of the parameter or buffer.
        axis: along which the units lie.
        unit_of: the unit of each position along the axis; -1 if the position belongs to another group.
        role: ``source``: what the unit is made by, such as the rows of a weight, or a bias; ``sink``: what
            it is multiplied by where it is summed with others, such as the columns of the next weight;
            ``idle``: neither, such as a slope or a statistic.
    """

    name: str
    axis: int
    unit_of: Tensor
    role: str

    @property
    def positions(self) -> int:
        """How many positions along the axis belong to the group."""
        return int((self.unit_of >= 0).sum())

    def along(self, kept: Tensor) -> Tensor:
        """Return which positions along the axis stay if the units ``kept`` do."""
        safe = self.unit_of.clamp(min=0).to(kept.device)
        return kept[safe] | (self.unit_of < 0).to(kept.device)


@dataclass(frozen=True)
class Group:
    """Units with parts in the same parameters; a unit is removed from all of them at once.

    Attributes:
        name: the name of its first member, such as ``layer1.0.conv1.weight``.
        units: the number of units.
        members: every parameter and buffer in which the units have a part.
        why_not: the reason for which the units stay; None: they can be removed.
        exact_when_masked: whether the network without a unit computes what the whole one does with all
            parameters of the unit at 0.
        why_not_exact: why it does not; None: it does.
        silent: whether a unit is 0 wherever it is used once all its sources are 0.
        heard_by_sinks: whether a unit has no effect once all its sinks are 0.
    """

    name: str
    units: int
    members: tuple[Member, ...]
    why_not: Reason | None = None
    why_not_exact: Reason | None = None
    silent: bool = True
    heard_by_sinks: bool = True

    @property
    def prunable(self) -> bool:
        """Whether units of it can be removed."""
        return self.why_not is None

    @property
    def exact_when_masked(self) -> bool:
        """Whether setting the parameters of a unit to 0 has the same effect as removing it."""
        return self.why_not_exact is None


@dataclass(frozen=True)
class CoupledUnits:
    """All groups of a network, including the groups that have to stay whole.

    Attributes:
        groups: in the order of the network's parameters.
        not_followed: names of operations that could not be followed.
        literals: sizes that the code of modules may contain as numbers.
        resolved: the units of all positions of all parameters.
        steps: the operations of a forward pass in eval mode, for counting what they cost.
        batch: the number of inputs of that pass.
        trace: the record of this pass.
        mixing: the operations of it that take units together even when they are 0, by the graph's node, with
            operands and results.
        cut_normalized: whether units that can be cut out, but not masked, are pruned too.
    """

    groups: tuple[Group, ...]
    not_followed: tuple[str, ...] = ()
    literals: tuple[Literal, ...] = ()
    resolved: Resolved | None = field(default=None, repr=False)
    steps: tuple[Any, ...] = field(default=(), repr=False)
    batch: int = 1
    trace: Trace | None = field(default=None, repr=False)
    mixing: Mapping[Any, tuple[Any, Any]] = field(default_factory=dict, repr=False)
    cut_normalized: bool = False

    @cached_property
    def prunable(self) -> tuple[Group, ...]:
        """The groups whose units can be removed, and whose removal equals setting them to 0 if it has to."""
        found = (group for group in self.groups if group.prunable)
        return tuple(group for group in found if group.exact_when_masked or self.cut_normalized)

    @cached_property
    def place(self) -> Any:
        """Two arrays by unit number: the group's place in ``groups`` (-1: none), and the unit in it."""
        assert self.resolved is not None
        where = np.full((2, len(self.resolved.unit_of)), -1, dtype=np.int64)
        for number, group in enumerate(self.groups):
            for member in group.members:
                axis = self.resolved.axes[member.name, member.axis]
                own = member.unit_of.numpy()
                units = self.resolved.unit_of[axis.labels[own >= 0]]
                where[0, units], where[1, units] = number, own[own >= 0]
        return where

    def stay(self, labels: Numbers, kept: Mapping[str, Tensor]) -> Tensor:
        """Return which of the positions with these labels stay."""
        assert self.resolved is not None
        number, unit = self.place[:, self.resolved.unit_of[labels]]
        stays = torch.ones(len(labels), dtype=torch.bool)
        for each in np.unique(number[number >= 0]).tolist():
            if (mask := kept.get(self.groups[each].name)) is not None:
                own = torch.from_numpy(number == each)
                stays[own] = mask.cpu()[torch.from_numpy(unit[number == each])]
        return stays

    def num_kept(self, labels: Numbers, kept: Mapping[str, Tensor]) -> int:
        """Return how many positions with these labels stay; what is not in ``kept`` stays whole."""
        if id(labels) not in self._counts:
            self._counts[id(labels)] = labels, self._count(labels)
        _, counts = self._counts[id(labels)]
        left = len(labels)
        for name, per_unit in counts.items():
            if name in kept:
                left -= int(per_unit[~kept[name].cpu().numpy()].sum())
        return left

    def _count(self, labels: Numbers) -> dict[str, Numbers]:
        """Return how many of the positions belong to each unit, by the group's name."""
        assert self.resolved is not None
        number, unit = self.place[:, self.resolved.unit_of[labels]]
        found = {}
        for each in np.unique(number[number >= 0]).tolist():
            group = self.groups[each]
            found[group.name] = np.bincount(unit[number == each], minlength=group.units)
        return found

    @cached_property
    def _counts(self) -> dict[int, tuple[Numbers, dict[str, Numbers]]]:
        return {}


def found_groups(network: nn.Module, example: Any) -> CoupledUnits:
    """Return the groups that follow from the operations of ``network`` on ``example``.

    If evaluation does not use all parameters, such as auxiliary classifiers, training is followed too.

    Raises:
        NotTraced: the operations cannot be recorded.
    """
    call = Call.of(example)
    ledger = Ledger()
    walk = Walk(network, ledger)
    trace = traced(network, call)
    walk.follow(trace)
    steps, mixing = tuple(walk.steps), dict(walk.mixing)
    if any(name not in walk.used for name, _ in network.named_parameters()):
        with suppress(NotTraced):
            walk.follow(traced(network, call, training=True))
    resolved = ledger.resolve()
    order = [n for n, _ in (*network.named_parameters(), *network.named_buffers())]
    groups = _grouped(resolved, {name: place for place, name in enumerate(order)})
    not_followed, literals = tuple(sorted(walk.not_followed)), tuple(walk.literals)
    batch = num_samples((call.inputs, dict(call.keywords)))
    return CoupledUnits(groups, not_followed, literals, resolved, steps, batch, trace, mixing)


def _grouped(resolved: Resolved, order: Mapping[str, int]) -> tuple[Group, ...]:
    """Group the units that have parts in the same axes."""
    axes = sorted(resolved.axes.values(), key=lambda a: (order.get(a.name, len(order)), a.axis))
    marks = np.random.default_rng(0).integers(1, 2**62, size=len(axes))
    key = np.zeros(len(resolved.unit_of), dtype=np.int64)
    for mark, axis in zip(marks, axes, strict=True):
        units = np.unique(resolved.unit_of[axis.labels])
        with np.errstate(over="ignore"):
            key[units] += mark
    for held in (resolved.held, resolved.mixed):  # units that stay belong to no group that can be pruned
        key[list(held)] ^= marks[0] >> 3 if held is resolved.held else marks[0] >> 7
    members: dict[int, list[Member]] = {}
    numbers: dict[int, Numbers] = {}
    for axis in axes:
        units = resolved.unit_of[axis.labels]
        for each in np.unique(key[units]).tolist():
            inside = key[units] == each
            if each not in numbers:
                _, first = np.unique(units[inside], return_index=True)
                numbers[each] = units[inside][np.sort(first)]
            members.setdefault(each, []).append(_member(resolved, axis, units, inside, numbers[each]))
    found = [_group(resolved, members[each], numbers[each]) for each in members]
    return _with_own_names(found)


def _member(resolved: Resolved, axis: Any, units: Numbers, inside: Any, numbers: Numbers) -> Member:
    place = np.full(int(numbers.max()) + 1, -1, dtype=np.int64)
    place[numbers] = np.arange(len(numbers))
    unit_of = np.full(axis.size, -1, dtype=np.int64)
    unit_of[inside] = place[units[inside]]
    labels = axis.labels[inside]
    idle = axis.is_buffer or bool(resolved.idle[labels].all())
    role = "idle" if idle else "sink" if bool(resolved.sinks[labels].all()) else "source"
    return Member(axis.name, axis.axis, torch.from_numpy(unit_of), role)


def _group(resolved: Resolved, members: list[Member], units: Numbers) -> Group:
    sources = [m for m in members if m.role == "source"] or members
    why_not = next((resolved.held[u] for u in units.tolist() if u in resolved.held), None)
    inexact = next((resolved.mixed[u] for u in units.tolist() if u in resolved.mixed), None)
    if why_not is None and len(units) < 2:
        why_not = Reason("it has a single unit")
    return Group(
        sources[0].name,
        len(units),
        tuple(members),
        why_not,
        inexact,
        not bool(resolved.loud[units].any()),
        not bool(resolved.heard[units].any()),
    )


def _with_own_names(groups: list[Group]) -> tuple[Group, ...]:
    """Number the names of groups that share their first member."""
    seen: dict[str, int] = {}
    found = []
    for group in groups:
        seen[group.name] = seen.get(group.name, 0) + 1
        count = seen[group.name]
        found.append(group if count == 1 else replace(group, name=f"{group.name}[{count}]"))
    return tuple(found)
