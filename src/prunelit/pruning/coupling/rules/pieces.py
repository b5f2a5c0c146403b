"""Operations that join, split, repeat and pick positions along axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from prunelit.pruning.coupling.ledger import Labels
from prunelit.pruning.coupling.marked import Marked, Step, is_labelled
from prunelit.pruning.coupling.rules import rule


@rule("cat", "concat", "concatenate")
def cat(step: Step, tensors: Sequence[Marked], axis: int = 0) -> Marked:
    """Join axes; the others have to fit."""
    axis %= len(step.shape)
    tensors = [each for each in tensors if each.ndim == len(step.shape)]
    labels: list[Labels] = []
    for place in range(len(step.shape)):
        parts = [each.labels[place] for each in tensors]
        if place == axis:
            labels.append(_joined(parts, [each.shape[place] for each in tensors]))
            continue
        along = parts[0]
        for other in parts[1:]:
            along = step.ledger.tie(along, other, step.why("its parts have to fit"))
        labels.append(along)
    zero = tuple(all(each.zero[place] for each in tensors) for place in range(len(step.shape)))
    return Marked(step.shape, tuple(labels), zero, all(each.is_weight for each in tensors))


def _joined(parts: Sequence[Labels], sizes: Sequence[int]) -> Labels:
    if all(part is None for part in parts):
        return None
    whole = [np.zeros(n, np.int64) if p is None else p for p, n in zip(parts, sizes, strict=True)]
    return np.concatenate(whole)


@rule("stack")
def stack(step: Step, tensors: Sequence[Marked], axis: int = 0) -> Marked:
    """Stack tensors along a new axis."""
    axis %= len(step.shape)
    labels: list[Labels] = []
    for place in range(tensors[0].ndim):
        along = tensors[0].labels[place]
        for other in tensors[1:]:
            along = step.ledger.tie(along, other.labels[place], step.why("its parts have to fit"))
        labels.append(along)
    zero = [all(each.zero[place] for each in tensors) for place in range(tensors[0].ndim)]
    labels.insert(axis, None)
    zero.insert(axis, False)
    return Marked(step.shape, tuple(labels), tuple(zero), all(each.is_weight for each in tensors))


@rule("split", "split_with_sizes", "chunk", "tensor_split", "unsafe_split", "unsafe_chunk")
def split(step: Step, x: Marked, sizes: Any, axis: int = 0, **keywords: Any) -> list[Marked]:
    """Cut an axis into pieces; pieces of one size keep one size."""
    axis = keywords.get("dim", axis) % x.ndim
    pieces: list[Marked] = []
    start = 0
    lengths = [shape[axis] for shape in step.shapes]
    along = x.labels[axis]
    for length in lengths:
        part = None if along is None else along[start : start + length]
        if is_labelled(along) and part is not None:
            if len(set(lengths)) == 1 and pieces:
                step.ledger.tie(pieces[0].labels[axis], part, step.why("it is cut into equal pieces"))
            elif step.operation != "aten.chunk":
                step.note_size(length, part)
        pieces.append(_cut(x, axis, part, length))
        start += length
    return pieces


@rule("glu")
def glu(step: Step, x: Marked, axis: int = -1) -> Marked:
    """Multiply one half of an axis by a gate that is computed from the other half."""
    axis %= x.ndim
    length, along = x.shape[axis] // 2, x.labels[axis]
    if along is not None:
        step.ledger.tie(along[:length], along[length:], step.why("one half is the gate of the other"))
    return _cut(x, axis, None if along is None else along[:length], length)


def _cut(x: Marked, axis: int, labels: Labels, length: int) -> Marked:
    shape = tuple(length if place == axis else size for place, size in enumerate(x.shape))
    part = Marked(shape, x.labels, x.zero, x.is_weight)
    return part.with_axis(axis, labels, x.zero[axis])


@rule("unbind")
def unbind(step: Step, x: Marked, axis: int = 0) -> list[Marked]:
    """Take an axis apart."""
    axis %= x.ndim
    step.ledger.hold(x.labels[axis], step.why("each position is used by its number"))
    return [_dropped(x, (axis,)) for _ in step.shapes]


@rule("select")
def select(step: Step, x: Marked, axis: int, index: int) -> Marked:
    """Take one position of an axis."""
    step.ledger.hold(x.labels[axis % x.ndim], step.why("a position is used by its number"))
    return _dropped(x, (axis % x.ndim,))


def _dropped(x: Marked, axes: tuple[int, ...]) -> Marked:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    return Marked(
        tuple(x.shape[a] for a in kept),
        tuple(x.labels[a] for a in kept),
        tuple(x.zero[a] for a in kept),
        x.is_weight,
    )


@rule("slice")
def cut_slice(
    step: Step, x: Marked, axis: int = 0, start: Any = None, end: Any = None, stride: int = 1
) -> Marked:
    """Take a range of positions."""
    along, axis = x.labels[axis], axis % x.ndim
    taken = None if along is None else along[slice(start, end, stride)]
    if is_labelled(along) and step.shape[axis] != x.shape[axis]:
        assert along is not None
        for edge in (start, end):
            if isinstance(edge, int) and 0 < edge < x.shape[axis]:
                step.note_size(edge, along[:edge])
    return Marked(step.shape, x.labels, x.zero, x.is_weight).with_axis(axis, taken, x.zero[axis])


@rule("narrow")
def narrow(step: Step, x: Marked, axis: int, start: int, length: int) -> Marked:
    """Take a range of positions."""
    return cut_slice(step, x, axis, start, start + length)


@rule("expand", "expand_as", "broadcast_to")
def expand(step: Step, x: Marked, *sizes: Any, **keywords: Any) -> Marked:
    """Repeat axes of size 1."""
    new = len(step.shape) - x.ndim
    labels, zero = list(x.labels), list(x.zero)
    for axis, size in enumerate(x.shape):
        if size == 1 != step.shape[axis + new]:
            labels[axis], zero[axis] = None, False
        elif step.operation == "aten.expand":
            step.note_size(size, labels[axis])
    return Marked(step.shape, (*[None] * new, *labels), (*[False] * new, *zero), x.is_weight)


@rule("repeat", "tile")
def repeat(step: Step, x: Marked, times: Sequence[int]) -> Marked:
    """Repeat whole axes."""
    new = len(step.shape) - x.ndim
    counts = [1] * (len(step.shape) - len(times)) + list(times)
    labels = [
        along if along is None or counts[axis + new] == 1 else np.tile(along, counts[axis + new])
        for axis, along in enumerate(x.labels)
    ]
    return Marked(step.shape, (*[None] * new, *labels), (*[False] * new, *x.zero), x.is_weight)


@rule("repeat_interleave")
def repeat_interleave(step: Step, x: Marked, times: Any, axis: Any = None, **keywords: Any) -> Marked:
    """Repeat each position."""
    if not isinstance(times, int) or axis is None:
        raise NotImplementedError
    along = x.labels[axis]
    taken = None if along is None else np.repeat(along, times)
    return Marked(step.shape, x.labels, x.zero, x.is_weight).with_axis(axis, taken, x.zero[axis])


@rule("flip")
def flip(step: Step, x: Marked, axes: Sequence[int]) -> Marked:
    """Reverse axes."""
    for axis in axes:
        along = x.labels[axis]
        x = x.with_axis(axis, None if along is None else along[::-1].copy(), x.zero[axis])
    return x


@rule("roll")
def roll(step: Step, x: Marked, shifts: Sequence[int], axes: Sequence[int] = ()) -> Marked:
    """Shift positions, which have to stay."""
    for axis in axes or range(x.ndim):
        step.ledger.hold(x.labels[axis], step.why("positions are moved by a number"))
        x = x.with_axis(axis, None, False)
    return x


@rule("index")
def index(step: Step, x: Marked, indices: Sequence[Marked | None]) -> Marked:
    """Select positions by tensors of indices; other axes are unchanged."""
    chosen = [axis for axis, each in enumerate(indices) if each is not None]
    for axis in chosen:
        step.ledger.hold(x.labels[axis], step.why("positions are used by their numbers"))
    for each in indices:
        for along in each.labels if each is not None else ():
            step.ledger.hold(along, step.why("numbers of positions"))
    kept = [axis for axis in range(x.ndim) if axis not in chosen]
    rank = len(step.shape) - len(kept)
    adjacent = chosen == list(range(chosen[0], chosen[0] + len(chosen)))
    before = chosen[0] if adjacent else 0
    labels: list[Labels] = [x.labels[a] for a in kept]
    zero = [x.zero[a] for a in kept]
    labels[before:before] = [None] * rank
    zero[before:before] = [False] * rank
    return Marked(step.shape, tuple(labels), tuple(zero), x.is_weight)


@rule("index_select")
def index_select(step: Step, x: Marked, axis: int, places: Marked) -> Marked:
    """Select positions of one axis by their indices."""
    step.ledger.hold(x.labels[axis], step.why("positions are used by their numbers"))
    return Marked(step.shape, x.labels, x.zero, x.is_weight).with_axis(axis, None, False)


@rule("embedding")
def embedding(step: Step, table: Marked, places: Marked, *options: Any, **keywords: Any) -> Marked:
    """Look up rows of a table."""
    step.ledger.hold(table.labels[0], step.why("rows are used by their numbers"))
    result = Marked.plain(step.shape)
    return result.with_axis(-1, table.labels[1], table.zero[1])


@rule("pad", "constant_pad_nd")
def pad(step: Step, x: Marked, sizes: Sequence[int], *value: Any, **keywords: Any) -> Marked:
    """Add positions at the ends of axes, which stay."""
    labels, zero = list(x.labels), list(x.zero)
    for place in range(len(sizes) // 2):
        axis, before, after = x.ndim - 1 - place, sizes[2 * place], sizes[2 * place + 1]
        along = labels[axis]
        if along is not None and (before or after):
            if min(before, after) < 0:
                step.ledger.hold(along, step.why("positions are taken away"))
                labels[axis] = None
            else:
                labels[axis] = np.pad(along, (before, after))
    return Marked(step.shape, tuple(labels), tuple(zero), x.is_weight)
