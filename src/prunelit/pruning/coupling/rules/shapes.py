"""Operations that rearrange elements: reshaping, permuting and shuffling."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from prunelit.pruning.coupling.ledger import Labels
from prunelit.pruning.coupling.marked import Marked, Step, is_labelled
from prunelit.pruning.coupling.rules import rule


@rule(
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "squeeze_",
    "unsqueeze_",
    "_unsafe_view",
)
@rule("reshape_as", "view_as", "ravel", "atleast_1d", "atleast_2d", "atleast_3d", "view_copy")
def reshape(step: Step, x: Marked, *sizes: Any, **keywords: Any) -> Marked:
    """Follow each position through axes that are merged and split, in row-major order."""
    labels: list[Labels] = []
    zero: list[bool] = []
    for old, new in blocks(x.shape, step.shape):
        if len(old) == len(new) == 1:
            labels.append(x.labels[old[0]])
            zero.append(x.zero[old[0]])
            continue
        flat, is_zero = _merged(step, x, old)
        split = _split(step, flat, [step.shape[axis] for axis in new])
        labels += split
        zero += [is_zero and along is not None for along in split]
    named = step.operation in ("aten.view", "aten.reshape", "aten.unflatten", "aten._unsafe_view")
    in_full = step.operation in ("aten.view", "aten.reshape")
    for axis, along in enumerate(labels) if named else ():
        step.note_size(step.shape[axis], along, (step.shape, axis) if in_full else None)
    return Marked(step.shape, tuple(labels), tuple(zero), x.is_weight)


def blocks(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Return which axes of one shape hold the same elements as which axes of another; all are in order."""
    found, i, j = [], 0, 0
    while i < len(old) or j < len(new):
        left, right = [i][: len(old) - i], [j][: len(new) - j]
        i, j = i + len(left), j + len(right)
        if left and right and old[left[0]] != new[right[0]]:
            # An axis of size 1 on one side alone is a block of its own.
            if old[left[0]] == 1:
                right, j = [], j - 1
            elif new[right[0]] == 1:
                left, i = [], i - 1
        elif (not right and old[left[0]] != 1) or (not left and new[right[0]] != 1):
            raise ValueError("sizes that do not fit")
        while left and right:
            a, b = math.prod(old[k] for k in left), math.prod(new[k] for k in right)
            if a == b:
                break
            if a < b:
                left, i = [*left, i], i + 1
            else:
                right, j = [*right, j], j + 1
        found.append((left, right))
    return found


def _merged(step: Step, x: Marked, axes: list[int]) -> tuple[Labels, bool]:
    """Return the labels of merged axes; if several have units, only units of one can be removed."""
    named = [axis for axis in axes if is_labelled(x.labels[axis])]
    if not named:
        return None, False
    chosen = max(named, key=lambda axis: x.shape[axis])
    for axis in named:
        if axis != chosen:
            step.ledger.hold(x.labels[axis], step.why("it is merged with an axis that is pruned"))
    along = x.labels[chosen]
    assert along is not None
    shape = [x.shape[axis] if axis == chosen else 1 for axis in axes]
    whole = np.broadcast_to(along.reshape(shape), [x.shape[axis] for axis in axes])
    return whole.reshape(-1), x.zero[chosen]


def _split(step: Step, flat: Labels, sizes: list[int]) -> list[Labels]:
    """Give the labels of one axis to one of the axes that it is split into.

    That is the axis on which alone they depend. If there is none, one is chosen, and positions that have
    the same place along it go together: the heads of attention, or else the longest.
    """
    result: list[Labels] = [None] * len(sizes)
    if flat is None or not sizes:
        return result
    grid = flat.reshape(sizes)
    lines = {axis: np.moveaxis(grid, axis, 0).reshape(size, -1) for axis, size in enumerate(sizes)}
    alone = [axis for axis, line in lines.items() if sizes[axis] > 1 and (line == line[:, :1]).all()]
    if alone:
        axis = alone[0]
    else:
        axis = _chosen(step, sizes, has_batch=len(np.unique(flat)) < len(flat))
        line = lines[axis]
        first = np.broadcast_to(line[:, :1], line.shape)
        step.ledger.tie(line.reshape(-1), first.reshape(-1), step.why("the axis is split"))
    result[axis] = np.ascontiguousarray(lines[axis][:, 0])
    return result


def _chosen(step: Step, sizes: list[int], has_batch: bool) -> int:
    """Return the new axis along which positions may be removed: the axis of heads, or else the longest."""
    if has_batch and len(sizes) == 2 and any(sizes[0] % count == 0 for count in step.heads):
        return 0  # a batch and its heads in one axis, as in nn.MultiheadAttention
    heads = [axis for axis, size in enumerate(sizes) if size in step.heads]
    if len(heads) > 1:
        return len(sizes) - 2 if len(sizes) - 2 in heads else heads[0]
    if heads:
        return heads[0]
    return max(range(len(sizes)), key=lambda axis: sizes[axis])


@rule("permute")
def permute(step: Step, x: Marked, order: Sequence[int]) -> Marked:
    """Put the axes in another order."""
    places = [axis % x.ndim for axis in order]
    labels, zero = tuple(x.labels[a] for a in places), tuple(x.zero[a] for a in places)
    return Marked(step.shape, labels, zero, x.is_weight)


@rule("transpose", "swapaxes", "swapdims", "transpose_")
def transpose(step: Step, x: Marked, first: int, second: int) -> Marked:
    """Exchange two axes."""
    order = list(range(x.ndim))
    order[first], order[second] = order[second], order[first]
    return permute(step, x, order)


@rule("t", "numpy_T", "mT", "adjoint")
def turn(step: Step, x: Marked) -> Marked:
    """Exchange the last two axes."""
    return transpose(step, x, -1, -2) if x.ndim > 1 else x


@rule("movedim", "moveaxis")
def movedim(step: Step, x: Marked, source: Any, destination: Any) -> Marked:
    """Move axes to other positions."""
    sources = [s % x.ndim for s in ([source] if isinstance(source, int) else source)]
    targets = [d % x.ndim for d in ([destination] if isinstance(destination, int) else destination)]
    order = [axis for axis in range(x.ndim) if axis not in sources]
    for target, origin in sorted(zip(targets, sources, strict=True)):
        order.insert(target, origin)
    return permute(step, x, order)


@rule("pixel_shuffle")
def pixel_shuffle(step: Step, x: Marked, factor: int) -> Marked:
    """Move channels to pixels: (c r r, h, w) becomes (c, h r, w r)."""
    lead = x.ndim - 3
    channels, height, width = x.shape[lead:]
    parts = (*x.shape[:lead], channels // factor**2, factor, factor, height, width)
    order = [*range(lead), lead, lead + 3, lead + 1, lead + 4, lead + 2]
    return _through(step, x, parts, order)


@rule("pixel_unshuffle")
def pixel_unshuffle(step: Step, x: Marked, factor: int) -> Marked:
    """Move pixels to channels: (c, h r, w r) becomes (c r r, h, w)."""
    lead = x.ndim - 3
    channels, height, width = x.shape[lead:]
    parts = (*x.shape[:lead], channels, height // factor, factor, width // factor, factor)
    order = [*range(lead), lead, lead + 2, lead + 4, lead + 1, lead + 3]
    return _through(step, x, parts, order)


@rule("channel_shuffle", "native_channel_shuffle")
def channel_shuffle(step: Step, x: Marked, groups: int) -> Marked:
    """Interleave the channels of groups."""
    parts = (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    x = reshape(_to(step, parts), x)
    step.note_size(groups, x.labels[1])
    return _in_order(step, x, [0, 2, 1, *range(3, len(parts))])


def _through(step: Step, x: Marked, parts: tuple[int, ...], order: list[int]) -> Marked:
    """Split axes, put them in another order and merge them into the step's shape."""
    return _in_order(step, reshape(_to(step, parts), x), order)


def _in_order(step: Step, x: Marked, order: list[int]) -> Marked:
    """Put axes in another order and merge them into the step's shape."""
    whole, parts = step.shape, x.shape
    x = permute(_to(step, tuple(parts[axis] for axis in order)), x, order)
    return reshape(_to(step, whole), x)


def _to(step: Step, shape: tuple[int, ...]) -> Step:
    return Step(step.ledger, step.operation, step.modules, (shape,), None, step.literals, step.heads)
