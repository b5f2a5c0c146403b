"""The multiply-accumulates of products of matrices, from the shapes of their operands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

Shape = Sequence[int]


def macs_of_matmul(first: Shape, result: Shape) -> int:
    """Return those of a product of vectors, matrices or batches of them: each result is a sum of products.

    Args:
        first: the shape of the factor on the left, whose last axis is summed over.
        result: the shape of the result, into which both factors are broadcast.
    """
    return math.prod(result) * first[-1]


def macs_of_attention(query: Shape, key: Shape, value: Shape, result: Shape) -> int:
    """Return those of ``softmax(q k^T) v``: its two products, whatever a mask leaves out."""
    return math.prod(result[:-1]) * key[-2] * (query[-1] + value[-1])


def macs_of_einsum(equation: str, shapes: Sequence[Shape]) -> int:
    """Return those of ``torch.einsum``, which multiplies its operands one after the other.

    One operand alone is only summed: 0.
    """
    terms, _, outputs = equation.replace(" ", "").partition("->")
    named = [axes_of_term(term, len(shape)) for term, shape in zip(terms.split(","), shapes, strict=True)]
    sizes: dict[Any, int] = {}
    for axes, shape in zip(named, shapes, strict=True):
        for axis, size in zip(axes, shape, strict=True):
            sizes[axis] = max(size, sizes.get(axis, 1))
    every = [axis for axes in named for axis in axes]
    if "->" in equation:
        # Hidden axes are those that "..." stands for.
        kept = {axis for axis in every if (axis if isinstance(axis, str) else "...") in outputs}
    else:
        kept = {axis for axis in every if every.count(axis) == 1 or not isinstance(axis, str)}
    total, left = 0, set(named[0])
    for number, axes in enumerate(named[1:], 2):
        left |= set(axes)
        total += math.prod(sizes[axis] for axis in left)
        left &= kept.union(*named[number:])
    return total


def axes_of_term(term: str, rank: int) -> list[Any]:
    """Return the letters of a term of an einsum; axes that ``...`` stands for are numbered from the last."""
    if "..." not in term:
        return list(term)
    before, after = term.split("...")
    hidden = rank - len(before) - len(after)
    return [*before, *[("batch", -i) for i in range(hidden, 0, -1)], *after]
