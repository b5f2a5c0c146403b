"""Density after each round, as plain functions.

``round`` counts from 1 to ``rounds``; ``start`` is the density before the first round. Each
schedule ends exactly at ``density`` and never rises.
"""

from __future__ import annotations

import math
from collections.abc import Callable

Schedule = Callable[[int, int, float, float], float]


def exponential(round: int, rounds: int, density: float, start: float = 1.0) -> float:
    """Remove the same share of what remains each round: ``start * (density / start) ** (round / rounds)``."""
    if round == rounds or density == 0:
        return density if round == rounds else start * (1 - round / rounds)
    return start * (density / start) ** (round / rounds)


def linear(round: int, rounds: int, density: float, start: float = 1.0) -> float:
    """Remove the same number of parameters each round."""
    return density if round == rounds else start + (density - start) * (round / rounds)


def cubic(round: int, rounds: int, density: float, start: float = 1.0) -> float:
    """Remove much first, little last: ``density + (start - density) * (1 - round / rounds) ** 3``.

    Source: Zhu and Gupta, To prune, or not to prune, https://arxiv.org/abs/1710.01878, equation 1.
    """
    return density + (start - density) * (1 - round / rounds) ** 3


def constant(round: int, share: float, start: float = 1.0) -> float:
    """Density after removing ``share`` of what remains ``round`` times: 0.1 leaves 0.9, 0.81, 0.729 ..."""
    return start * (1 - share) ** round


def rounds_to_reach(density: float, share: float, start: float = 1.0) -> int:
    """Number of rounds of :func:`constant` after which at most ``density`` is left.

    Both densities are above 0, and ``share`` is above 0 and below 1. A rounding error of the
    arithmetic is not worth a round: three rounds of 0.1 reach 0.729.
    """
    rounds = math.log(density / start) / math.log1p(-share)
    return max(0, math.ceil(rounds - 1e-9))


SCHEDULES: dict[str, Schedule] = {"exponential": exponential, "linear": linear, "cubic": cubic}
