"""Tensors of a traced network, with a label for each position along each of their axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from prunelit.pruning.coupling.ledger import Labels, Ledger, Reason


@dataclass(frozen=True)
class Marked:
    """A tensor of the traced network, without its values.

    Attributes:
        shape: its sizes.
        labels: along each axis, the labels of the positions; None: all positions stay.
        zero: along each axis, whether a position is 0 once all parameters of its unit are.
        is_weight: whether it is computed from parameters alone.
    """

    shape: tuple[int, ...]
    labels: tuple[Labels, ...]
    zero: tuple[bool, ...]
    is_weight: bool = False

    @classmethod
    def plain(cls, shape: Sequence[int], is_weight: bool = False) -> Marked:
        """Return a tensor whose positions all stay."""
        rank = len(shape)
        return cls(tuple(shape), (None,) * rank, (False,) * rank, is_weight)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def with_axis(self, axis: int, labels: Labels, zero: bool) -> Marked:
        """Return it with other labels along one axis."""
        axis %= self.ndim
        places = range(self.ndim)
        return replace(
            self,
            labels=tuple(labels if i == axis else self.labels[i] for i in places),
            zero=tuple(zero if i == axis else self.zero[i] for i in places),
        )


Place = tuple[tuple[int, ...], int]
"""All sizes of one call (no other call has the same object), and the number of one of them."""


@dataclass(frozen=True)
class Step:
    """One operation of the traced network.

    Attributes:
        ledger: collects what the operation requires.
        operation: its name, such as ``aten.cat``.
        modules: the names of the modules whose forward pass contains it, the outermost first.
        shapes: the shapes of its results.
        function: the function that computes it.
        literals: collects the sizes that the code of a module may contain as numbers.
    """

    ledger: Ledger
    operation: str
    modules: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]
    function: Any
    literals: list[Literal]
    heads: frozenset[int] = frozenset()

    @property
    def module(self) -> str:
        """Name of the innermost module whose forward pass contains the operation."""
        return self.modules[-1] if self.modules else ""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of its only result."""
        return self.shapes[0]

    def why(self, text: str) -> Reason:
        """Return a reason that names the operation."""
        return Reason(text, self.operation.removeprefix("aten."), self.module)

    def note_size(self, size: int, labels: Labels, place: Place | None = None) -> None:
        """Note a size that the module's code may contain as a number, and its position in ``reshape``."""
        if labels is not None:
            operation = self.operation.removeprefix("aten.")
            self.literals.append(Literal(self.module, operation, size, labels, place))


@dataclass(frozen=True)
class Literal:
    """A size in a module's code or attribute that depends on which units are removed.

    ``place`` is which of the sizes in a call of ``view`` or ``reshape`` it is.
    """

    module: str
    operation: str
    size: int
    labels: Any
    place: Place | None = None


def is_labelled(labels: Labels) -> bool:
    """Return whether any of these positions could be removed."""
    return labels is not None and bool(np.any(labels))
