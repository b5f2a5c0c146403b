"""Whether a number of ours agrees with a published one.

A published number is one run as a rule, so it is compared with what one more run of ours would give: with
the 95 % prediction interval of n seeds, widened by half a unit of the last published digit. The interval of
the mean alone would be too narrow for that. Fewer than three seeds have no spread to compare with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal

from prunelit.study.report.tables.statistics import LEVEL, Summary, t_quantile

FEWEST_SEEDS = 3
"""The least number of seeds from which a spread is computed."""
AGREES, DIFFERS, NOT_RUN, DOUBTFUL, OPEN = "agrees", "differs", "not run", "doubtful", "open"
VERDICTS = (AGREES, DIFFERS, DOUBTFUL, OPEN, NOT_RUN)


@dataclass(frozen=True)
class Verdict:
    """One of :data:`VERDICTS`, and why."""

    word: str
    why: str = ""


@dataclass(frozen=True)
class Evidence:
    """What a verdict depends on.

    Attributes:
        ours: summary of our numbers, one per seed.
        theirs: the published number as printed, empty if the published run failed.
        scale: the scale of our sweep.
        doubt: why the published number cannot be correct; empty if there is no doubt.
        otherwise: the settings in which our runs differ from the published runs; empty if there are none.
        reason: an explanation of a difference; empty if there is none.
        of_ten: whether the numbers are counts of networks out of ten.
    """

    ours: Summary
    theirs: str
    scale: float = 1.0
    doubt: str = ""
    otherwise: str = ""
    reason: str = ""
    of_ten: bool = False


def verdict(evidence: Evidence) -> Verdict:
    """Return whether our number agrees with the published number; with a scale below 1, it never does."""
    if evidence.doubt or not evidence.theirs:
        return Verdict(DOUBTFUL, evidence.doubt or "the published run failed")
    if not evidence.ours.n:
        return Verdict(NOT_RUN)
    if evidence.otherwise:
        return Verdict(OPEN, f"run with {evidence.otherwise}")
    if evidence.scale < 1:
        return Verdict(OPEN, f"run at scale {evidence.scale:g}")
    if evidence.ours.n < FEWEST_SEEDS:
        return Verdict(OPEN, f"a spread takes {FEWEST_SEEDS} seeds")
    same = _same_share if evidence.of_ten else _within_spread
    return (
        Verdict(AGREES)
        if same(evidence.ours, evidence.theirs)
        else Verdict(DIFFERS, evidence.reason or "not explained")
    )


def _within_spread(ours: Summary, theirs: str) -> bool:
    half = t_quantile(ours.n - 1) * ours.sd * math.sqrt(1 + 1 / ours.n)
    return abs(float(theirs) - ours.mean) <= half + half_unit(theirs)


def half_unit(text: str) -> float:
    """Return half a unit of the last digit of a printed number: 0.005 for ``81.39``."""
    return 0.5 * 10.0 ** int(Decimal(text).as_tuple().exponent)


def _same_share(ours: Summary, theirs: str) -> bool:
    """Whether Fisher's exact test finds no difference between our k of n networks and their k of 10."""
    from scipy.stats import fisher_exact

    k, published = round(ours.mean * ours.n / 10), round(float(theirs))
    return bool(fisher_exact([[k, ours.n - k], [published, 10 - published]])[1] > 1 - LEVEL)
