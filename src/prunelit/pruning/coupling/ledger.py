"""Which positions of a network can only be removed together, and which stay, noted operation by operation.

Each position along each axis of each parameter has a number of its own. An operation hands the numbers
on, ties some of them together (a sum ties those of its terms), holds some of them (their positions
stay), or notes that zeros there do not leave the rest of the network as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Labels = Numbers | None
"""The numbers along one axis, one per position; 0: the position stays; None: all positions stay."""


@dataclass(frozen=True)
class Reason:
    """The reason, operation and module for which positions stay, or have an effect although they are 0."""

    text: str
    operation: str = ""
    module: str = ""

    def __str__(self) -> str:
        where = f" in {self.module}" if self.module else ""
        return f"{self.text} ({self.operation}{where})" if self.operation else f"{self.text}{where}"


_FIXED = Reason("it has to fit positions that stay")


@dataclass(frozen=True)
class Axis:
    """One axis of a parameter or buffer, and the first of the numbers of its positions."""

    name: str
    axis: int
    size: int
    first: int
    is_buffer: bool

    @property
    def labels(self) -> Numbers:
        """The numbers of its positions."""
        return np.arange(self.first, self.first + self.size)


@dataclass
class Ledger:
    """Collects what operations require of numbered positions.

    Attributes:
        axes: of all parameters and buffers that the walk has met, by name and axis.
        size: the next number to assign.
    """

    axes: dict[tuple[str, int], Axis] = field(default_factory=dict)
    size: int = 1
    _ties: list[tuple[Numbers, Numbers]] = field(default_factory=list)
    _held: list[tuple[Numbers, Reason]] = field(default_factory=list)
    _mixed: list[tuple[Numbers, Reason]] = field(default_factory=list)
    _loud: list[Numbers] = field(default_factory=list)
    _heard: list[Numbers] = field(default_factory=list)
    _sinks: list[Numbers] = field(default_factory=list)
    _idle: list[Numbers] = field(default_factory=list)

    def axis(self, name: str, axis: int, size: int, is_buffer: bool) -> Labels:
        """Return the numbers along an axis of a parameter; one of size 1 cannot lose its only position."""
        if size < 2:
            return None
        if (name, axis) not in self.axes:
            self.axes[name, axis] = Axis(name, axis, size, self.size, is_buffer)
            self.size += size
        return self.axes[name, axis].labels

    def tie(self, first: Labels, second: Labels, reason: Reason) -> Labels:
        """Require that positions of two axes are removed together; return the labels of both."""
        if first is None or second is None:
            self.hold(first, reason)
            self.hold(second, reason)
            return None
        if first is not second:
            differ = first != second
            if differ.any():
                self._ties.append((first[differ], second[differ]))
        return first

    def hold(self, labels: Labels, reason: Reason) -> None:
        """Let all these positions stay."""
        if labels is not None:
            self._held.append((labels, reason))

    def mix(self, labels: Labels, reason: Reason) -> None:
        """Note that these positions affect the values of all others, even when they are 0."""
        if labels is not None:
            self._mixed.append((labels, reason))

    @property
    def num_mixed(self) -> int:
        """The number of calls of :meth:`mix`."""
        return len(self._mixed)

    def contract(self, labels: Labels, weights: Labels, silent: bool, weighted: bool, reason: Reason) -> None:
        """Note a sum of products over positions.

        Args:
            labels: of the positions.
            weights: the labels that they have in a parameter, if one is among the factors.
            silent: whether a position without its sources is 0 there.
            weighted: whether one whose part of that parameter is 0 does not count.
            reason: for positions to which neither applies.
        """
        if labels is None:
            return
        if not silent:
            self._loud.append(labels)
        if weighted and weights is not None:
            self._sinks.append(weights)
        else:
            self._heard.append(labels)
        if not silent and not weighted:
            self.mix(labels, reason)

    def idle(self, labels: Labels) -> None:
        """Note numbers of a parameter that need not be 0 for a unit to be 0, such as slopes of PReLU."""
        if labels is not None:
            self._idle.append(labels)

    def resolve(self) -> Resolved:
        """Return the units that result: classes of numbers that are tied together."""
        from scipy.sparse import coo_matrix
        from scipy.sparse.csgraph import connected_components

        pairs = [np.concatenate(side) for side in zip(*self._ties, strict=True)] or [
            np.zeros(0, np.int64)
        ] * 2
        ones = np.ones(len(pairs[0]), dtype=np.int8)
        graph = coo_matrix((ones, (pairs[0], pairs[1])), shape=(self.size, self.size))
        _, unit_of = connected_components(graph, directed=False)
        unit_of = unit_of.astype(np.int64)
        held = _reasons(unit_of, [(np.zeros(1, np.int64), _FIXED), *self._held])
        return Resolved(
            self.axes,
            unit_of,
            held,
            _reasons(unit_of, self._mixed),
            _marked(unit_of, self._loud),
            _marked(unit_of, self._heard),
            _marked(np.arange(self.size), self._sinks),
            _marked(np.arange(self.size), self._idle),
        )


@dataclass(frozen=True)
class Resolved:
    """Units of a network.

    Attributes:
        axes: of parameters and buffers.
        unit_of: the unit of each number.
        held: the reason for which each unit stays.
        mixed: the reason for which each unit has an effect although it is 0.
        loud: marks units that are not 0 everywhere though all of their sources are.
        heard: marks units that are used where no weight of their own is a factor.
        sinks: marks numbers of weights by which a unit is multiplied before it is summed with others.
        idle: marks numbers of parameters that need not be 0 for a unit to be 0.
    """

    axes: dict[tuple[str, int], Axis]
    unit_of: Numbers
    held: dict[int, Reason]
    mixed: dict[int, Reason]
    loud: NDArray[np.bool_]
    heard: NDArray[np.bool_]
    sinks: NDArray[np.bool_]
    idle: NDArray[np.bool_]


def _reasons(unit_of: Numbers, noted: Iterable[tuple[Numbers, Reason]]) -> dict[int, Reason]:
    """Return the first reason noted for each unit."""
    found: dict[int, Reason] = {}
    for labels, reason in noted:
        for unit in np.unique(unit_of[labels]).tolist():
            found.setdefault(unit, reason)
    return found


def _marked(unit_of: Numbers, noted: list[Numbers]) -> NDArray[np.bool_]:
    marks = np.zeros(len(unit_of), dtype=np.bool_)
    for labels in noted:
        marks[unit_of[labels]] = True
    return marks
