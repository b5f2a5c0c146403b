"""Ties: where scores are equal, and the order of the parameters decides which of them are kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor

from prunelit.pruning.highest import Highest
from prunelit.request import BadRequest

CONSIDERABLE = 0.01
"""Share of the kept parameters above which a choice by order is worth a word."""


class UndecidedScores(BadRequest):
    """All scores are equal, so that a criterion decides nothing; the message names it and a remedy."""

    shows_in_the_run = True


@dataclass
class Ties:
    """What the order of parameters decided in one round.

    A competition is a set of parameters of which some are kept and some removed: all of them, those of
    one layer, or the M that lie side by side in an N:M pattern.

    Attributes:
        num_competitions: how many there were.
        num_equal: those in which all scores are equal, so that they decide nothing.
        num_kept: parameters kept.
        num_by_order: kept parameters with the score of a removed one, or, if they are fewer, removed
            ones with the score of a kept one.
        num_tied: kept parameters with the score of a removed one.
        layers: names of the tensors in which such ties are a considerable number.
        scores: the scores at which parameters tie.
        spared: by tensor, how many were kept before the others competed.
    """

    num_competitions: int = 0
    num_equal: int = 0
    num_kept: int = 0
    num_by_order: int = 0
    num_tied: int = 0
    layers: list[str] = field(default_factory=list)
    scores: set[float] = field(default_factory=set)
    spared: dict[str, int] = field(default_factory=dict)

    @property
    def all_equal(self) -> bool:
        """Whether scores decided nothing at all."""
        return 0 < self.num_competitions == self.num_equal

    @property
    def considerable(self) -> bool:
        """Whether order decided more than a few among many."""
        return self.num_by_order > 1 and self.num_by_order > CONSIDERABLE * self.num_kept

    def note(self, sizes: Mapping[str, int], num_kept: int, found: Highest) -> None:
        """Note one competition among tensors of ``sizes``, in their order; a bias alone is no competition.

        Args:
            sizes: number of elements by name.
            num_kept: how many are kept, at least one and not all.
            found: the kept ones.
        """
        if all(name.endswith("bias") for name in sizes):
            return
        self.num_competitions += 1
        self.num_kept += num_kept
        if found.num_tied is None:
            return
        assert found.threshold is not None
        num_tied = sum(found.num_tied)
        self.num_equal += num_tied == found.num_competing - sum(self.spared.get(name, 0) for name in sizes)
        num_held = num_tied - found.num_lost
        by_order = min(num_held, found.num_lost)
        self.num_by_order += by_order
        self.num_tied += num_held
        self.scores.add(found.threshold)
        if by_order > CONSIDERABLE * num_kept:
            self.layers += [name for name, number in zip(sizes, found.num_tied, strict=True) if number]

    def note_groups(self, name: str, ranked: Tensor, num_kept: int) -> None:
        """Note the competitions of an N:M pattern, one a group.

        ``ranked`` holds the scores of each group in falling order along its last axis, -inf where a weight
        was removed before; the first ``num_kept`` are kept.
        """
        if ranked.shape[-1] == num_kept:
            return
        decided = ranked[..., num_kept].isfinite()
        tied = decided & (ranked[..., num_kept - 1] == ranked[..., num_kept])
        self.num_competitions += int(decided.sum())
        self.num_equal += int((tied & (ranked[..., 0] == ranked[..., num_kept])).sum())
        self.num_kept += int(decided.sum()) * num_kept
        if number := int(tied.sum()):
            self.num_by_order += number
            self.num_tied += number
            self.scores |= set(ranked[..., num_kept][tied].unique()[:2].tolist())
            if number > CONSIDERABLE * int(decided.sum()):
                self.layers.append(name)
