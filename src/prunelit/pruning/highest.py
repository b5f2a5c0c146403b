"""Find exactly the k highest of many scores, the first of equal ones, in little memory besides the scores.

On a CPU all scores are read once. A sample of them gives two values that the k-th highest almost certainly
lies between. The pass marks what lies above the lower one and collects the few scores between them. One of
these is the k-th highest, and those below it lose their mark. Where the sample misled, the pass is done
again between other values. Pieces that fit a processor's cache are shared out to threads, as many as torch
uses; these never wait for each other, so several processes on the same cores do not slow each other down
more than their work does.

On a GPU the bits of the k-th highest are found one by one, with one pass over all scores for each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prunelit.pruning.kth_highest_by_bits import kth_highest_by_bits
from prunelit.pruning.score_pieces import Memory, Piece, all_finite, cut
from prunelit.pruning.threads import Map, threads

FEW = 2**14
"""Scores that the sample takes at least; up to as many, it takes all."""

MARGINS = (4.0, 16.0, math.inf)
"""How many standard deviations of its error a sample is trusted within: first try, second, last."""


@dataclass(frozen=True)
class Highest:
    """The highest scores.

    Attributes:
        masks: True where a score is among them, one mask per tensor.
        num_competing: number of candidates.
        threshold: the least score among them; None where all candidates or none are marked.
        num_tied: by tensor, how many candidates have that score; None if all of those are marked.
        num_lost: how many of those are not marked.
    """

    masks: list[Tensor]
    num_competing: int
    threshold: float | None = None
    num_tied: list[int] | None = None
    num_lost: int = 0


def highest(scores: Sequence[Tensor], k: int, candidates: Sequence[Tensor]) -> Highest | None:
    """Mark the ``k`` highest of all elements of ``scores`` among those that ``candidates`` mark.

    Of equal ones the first are marked: tensors in their order, elements in row-major order. All candidates
    are marked if there are at most ``k``.

    Returns:
        None if a score, of a candidate or not, is NaN or infinite.
    """
    if all(score.is_cuda for score in scores):
        return _highest_on_gpu(scores, k, candidates)
    exact = all(score.dtype in (torch.float32, torch.bfloat16, torch.float16) for score in scores)
    masks = [np.empty(score.numel(), dtype=bool) for score in scores]
    pieces = cut(scores, candidates, masks, torch.float32 if exact else torch.float64)
    with threads(len(pieces)) as each:
        competing = sum(map(Piece.num_candidates, pieces))
        if not 0 < k < competing:
            if not all(each(_is_finite, pieces)):
                return None
            return Highest([mask.clone() if k else torch.zeros_like(mask) for mask in candidates], competing)
        found = _around_kth_highest(pieces, k, competing, each)
        if found is None:
            return None
        threshold, num_at_least = found.kth_highest(k)
        all_noted = all(piece.places is not None for piece in pieces)  # then handing them out takes longer
        ties = list((map if all_noted else each)(lambda piece: piece.settle(threshold), pieces))
    excess, num_tied = num_at_least - k, None
    if excess:
        _unmark_last(pieces, ties, threshold, excess)
        num_tied = [0] * len(scores)
        for piece, number in zip(pieces, ties, strict=True):
            num_tied[piece.tensor] += number
    shaped = zip(masks, candidates, strict=True)
    marks = [torch.from_numpy(mask).view(other.shape).to(other.device) for mask, other in shaped]
    return Highest(marks, competing, float(threshold), num_tied, excess)


def _is_finite(piece: Piece) -> bool:
    return all_finite(piece.values())


def _sample(pieces: Sequence[Piece]) -> Any:
    """Return some candidates' values, one from each of many equal stretches; all of them if they are few.

    Its places are drawn, as a regular pattern could always meet the same column of a matrix. The draw is
    the same each time and does not touch the global random states.
    """
    total = sum(len(piece.scores) for piece in pieces)
    size = max(FEW, total // 256)
    random = np.random.default_rng(0)
    found = []
    drawn: dict[int, Any] = {}  # by the length of a piece: almost all are equally long
    for piece in pieces:
        length = len(piece.scores)
        if length not in drawn:
            number = math.ceil(size * length / total)
            places = ((np.arange(number) + random.random(number)) * (length / number)).astype(np.int64)
            drawn[length] = np.arange(length) if total <= FEW else places.clip(0, length - 1)
        found.append(piece.competing(drawn[length]))
    return np.concatenate(found)


@dataclass(frozen=True)
class _Between:
    """What lies between two values, the k-th highest among them.

    Attributes:
        low: the lower value.
        high: the higher one.
        num_at_least: how many candidates reach the lower value.
        num_above: how many exceed the higher one.
        num_at_high: how many are equal to it.
        near: those between them; ones that are equal to either may be among these.
    """

    low: Any
    high: Any
    num_at_least: int
    num_above: int
    num_at_high: int
    near: Any

    def kth_highest(self, k: int) -> tuple[Any, int]:
        """Return the ``k``-th highest value of all candidates and how many reach it."""
        inside = self.near[(self.near > self.low) & (self.near < self.high)]
        place = k - self.num_above - self.num_at_high
        if place <= 0:
            return self.high, self.num_above + self.num_at_high
        if place > len(inside):
            return self.low, self.num_at_least
        inside.partition(len(inside) - place)
        value = inside[len(inside) - place]
        return value, self.num_above + self.num_at_high + int(np.count_nonzero(inside >= value))


def _around_kth_highest(pieces: Sequence[Piece], k: int, competing: int, each: Map) -> _Between | None:
    """Return what lies around the ``k``-th highest of all candidates; None if a score is not finite."""
    sample, memory = _sample(pieces), Memory()
    for margin in MARGINS:
        low, high = enclosing(sample, k / competing, margin)
        counts = list(each(partial(Piece.look, low=low, high=high, memory=memory), pieces))
        if any(count[0] < 0 for count in counts):
            return None
        num_at_least, num_above, num_at_high = map(sum, zip(*counts, strict=True))
        if num_above < k <= num_at_least:
            near = np.concatenate([piece.near for piece in pieces])
            return _Between(low, high, num_at_least, num_above, num_at_high, near)
    raise AssertionError("every finite value lies between the infinities")


def enclosing(sample: Any, share: float, margin: float) -> tuple[Any, Any]:
    """Return two values around the one that a ``share`` of all values reach, as far as a sample tells."""
    size = len(sample)
    infinity = sample.dtype.type(math.inf)
    if not size or math.isinf(margin):
        return -infinity, infinity
    place, error = share * size, margin * math.sqrt(size * share * (1 - share)) + margin
    before, after = math.floor(place - error), math.ceil(place + error)
    wanted = [size - 1 - i for i in (before, after) if 0 <= i < size]
    if wanted:
        sample.partition(wanted)
    high = sample[size - 1 - before] if before >= 0 else infinity
    low = sample[size - 1 - after] if after < size else -infinity
    return low, high


def _unmark_last(pieces: Sequence[Piece], ties: Sequence[int], threshold: Any, excess: int) -> None:
    """Unmark the last ``excess`` candidates whose value is ``threshold``; ``ties`` counts them by piece."""
    for piece, number in zip(reversed(pieces), reversed(ties), strict=True):
        if number:
            last = np.flatnonzero((piece.values() == threshold) & piece.candidates)[-excess:]
            piece.mask[last] = False
            excess -= len(last)
        if not excess:
            return


def _highest_on_gpu(scores: Sequence[Tensor], k: int, candidates: Sequence[Tensor]) -> Highest | None:
    """Do the work of :func:`highest` on one GPU."""
    dtype = torch.float32 if all(score.dtype == torch.float32 for score in scores) else torch.float64
    values = torch.cat([score.detach().flatten().to(dtype) for score in scores])
    if not (values.min().isfinite() and values.max().isfinite()):
        return None
    marked = torch.cat([mask.flatten() for mask in candidates])
    competing = int(marked.sum())
    if not 0 < k < competing:
        return Highest([mask.clone() if k else torch.zeros_like(mask) for mask in candidates], competing)
    threshold = kth_highest_by_bits(values[marked], k)
    kept = (values >= threshold) & marked
    sizes = [score.numel() for score in scores]
    num_tied, excess = None, int(kept.sum()) - k
    if excess:
        tied = (values == threshold) & marked
        kept &= ~(tied & (tied.cumsum(0) > int(tied.sum()) - excess))
        num_tied = [int(part.sum()) for part in tied.split(sizes)]
    masks = [part.clone().view(s.shape) for part, s in zip(kept.split(sizes), scores, strict=True)]
    return Highest(masks, competing, float(threshold), num_tied, excess)
