"""Scores in pieces that fit into a cache of the processor: the highest scores of a piece, and close ones."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunelit.pruning import loops

PIECE = 2**19
"""Scores that a thread works on at a time: they and what is computed from them fit into its cache."""

NEAR = 16
"""At most one in this number of scores of a piece has its place recorded before the k-th highest is known."""


@dataclass
class Piece:
    """Some scores of one tensor, which fit into a processor's cache.

    Attributes:
        tensor: which one.
        scores: the scores.
        candidates: marks of those that compete.
        mask: where the highest are marked.
        dtype: in which scores are compared.
        near: the values that :meth:`look` found between two.
        places: of these; None where there are too many to note.
    """

    tensor: int
    scores: Tensor
    candidates: Any
    mask: Any
    dtype: torch.dtype
    near: Any = None
    places: Any = None

    def values(self) -> Any:
        """Return the scores in the type in which they are compared."""
        return self.scores.to(self.dtype).numpy()

    def competing(self, places: Any) -> Any:
        """Return those values at ``places`` that compete."""
        if not self._all_compete():
            places = places[self.candidates[places]]
        if self.scores.dtype == self.dtype:
            return self.scores.numpy()[places]
        return self.scores[torch.from_numpy(places)].to(self.dtype).numpy()

    def look(self, low: Any, high: Any, memory: Memory) -> tuple[int, int, int]:
        """Mark the candidates that reach ``low``, and note those from ``low`` to ``high``.

        ``memory`` belongs to all pieces of a pass.

        Returns:
            how many candidates reach ``low``, exceed ``high``, and equal ``high``; -1 if one is not finite.
        """
        values = self.values()
        candidates = None if self._all_compete() else self.candidates
        find = look_by_loop if loops.available() else look_by_operations
        num_at_least, near, places = find(values, candidates, self.mask, low, high, memory)
        if num_at_least < 0:
            return -1, 0, 0
        num_at_high = int(np.count_nonzero(near == high))
        many = len(near) > len(values) // NEAR
        self.places = None if many else places.astype(np.int32)
        self.near = near[(near > low) & (near < high)] if many else near.copy()
        return num_at_least, num_at_least - len(near), num_at_high

    def num_candidates(self) -> int:
        """Return how many scores compete."""
        return len(self.scores) if self._all_compete() else int(np.count_nonzero(self.candidates))

    def _all_compete(self) -> bool:
        return self.candidates.strides == (0,) and bool(self.candidates[0])  # every element is the same one

    def settle(self, threshold: Any) -> int:
        """Unmark what is below ``threshold``, and return how many candidates are equal to it."""
        if self.places is None:
            values = self.values()
            np.logical_and(values >= threshold, self.candidates, out=self.mask)
            return int(np.count_nonzero(values[self.mask] == threshold))
        if loops.available():
            return loops.settle(self.near, self.places, threshold, self.mask)
        self.mask[self.places[self.near < threshold]] = False
        return int(np.count_nonzero(self.near == threshold))


class Memory(threading.local):
    """Memory of each thread, which is used again and again."""

    def __init__(self) -> None:
        self._arrays: dict[Any, Any] = {}

    def of(self, dtype: Any, length: int) -> Any:
        """Return an array whose values do not matter; its memory is used again in the next call."""
        if dtype not in self._arrays or len(self._arrays[dtype]) < length:
            self._arrays[dtype] = np.empty(length, dtype)
        return self._arrays[dtype][:length]


def look_by_loop(
    values: Any, candidates: Any, marks: Any, low: Any, high: Any, memory: Memory
) -> tuple[int, Any, Any]:
    """Mark the candidates that reach ``low`` by a compiled loop; all compete if ``candidates`` is None.

    Returns:
        how many they are, or -1 if a value is not finite; the values from ``low`` to ``high``, and their
        places. Both may be in ``memory``.
    """
    near, places = memory.of(values.dtype, len(values)), memory.of(np.int32, len(values))
    number, picked = loops.mark(values, candidates, marks, low, high, near, places)
    return number, near[:picked], places[:picked]


def look_by_operations(
    values: Any, candidates: Any, marks: Any, low: Any, high: Any, memory: Memory
) -> tuple[int, Any, Any]:
    """Do the work of :func:`look_by_loop` by operations on arrays."""
    if not all_finite(values):
        return -1, values[:0], values[:0]
    at_least = np.greater_equal(values, low, out=marks)
    if candidates is not None:
        at_least &= candidates
    within = np.less_equal(values, high, out=memory.of(bool, len(values)))
    within &= at_least
    places = np.flatnonzero(within)
    return int(np.count_nonzero(at_least)), values[places], places


def cut(
    scores: Sequence[Tensor], candidates: Sequence[Tensor], masks: Sequence[Any], dtype: torch.dtype
) -> list[Piece]:
    """Cut all scores into pieces, in their order."""
    pieces = []
    for tensor, (score, candidate, mask) in enumerate(zip(scores, candidates, masks, strict=True)):
        values, marked = _flat(score.detach().cpu()), _flat(candidate.cpu()).numpy()
        for start in range(0, len(values), PIECE):
            part = slice(start, start + PIECE)
            pieces.append(Piece(tensor, values[part], marked[part], mask[part], dtype))
    return pieces


def _flat(tensor: Tensor) -> Tensor:
    """Return all elements in a row; those of a tensor that holds a single one stay a single one."""
    if tensor.ndim and tensor.numel() and not any(tensor.stride()):
        return tensor[(0,) * tensor.ndim].expand(tensor.numel())
    return tensor.reshape(-1)


def places_of_few(marks: Any) -> Any:
    """Return the places of True in a contiguous array; faster than ``np.flatnonzero`` if they are few."""
    if len(marks) % 8:
        return np.flatnonzero(marks)
    eights = marks.view(np.uint64)
    some = np.flatnonzero(eights != 0)
    found = np.flatnonzero(eights[some].view(bool))
    return (some[found >> 3] << 3) + (found & 7)


def all_finite(values: Any) -> bool:
    """Return whether none of ``values`` is NaN or infinite."""
    if math.isfinite(torch.from_numpy(values).sum()):  # one pass; the sum of finite values may be infinite
        return True
    return math.isfinite(values.min()) and math.isfinite(values.max())
