"""Statistics for few seeds: intervals by Student's t, paired tests, Holm's correction.

Differences between methods are tested pairwise on the runs that share a seed, by the paired t-test. Runs of
one seed share weights at the start and the order of data, so pairs are less noisy than two separate groups.
Wilcoxon's signed-rank test is not used: with fewer than six seeds its p-value cannot fall below 0.05.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

LEVEL = 0.95
"""Confidence of the intervals; differences with a corrected p-value of ``1 - LEVEL`` or more are noise."""

ROUNDING = 1e-9
"""Share of the values below which their differences are rounding of floats, and count as 0."""


@dataclass(frozen=True)
class Summary:
    """Of one number a seed: how many, their mean, standard deviation and 95 % confidence interval.

    ``sd`` divides by n - 1, and is 0 where values differ by rounding alone. With one seed ``sd``, ``low`` and
    ``high`` are NaN.
    """

    n: int
    mean: float
    sd: float
    low: float
    high: float

    def within(self, least: float, greatest: float) -> Summary:
        """Return the summary with its interval cut at the values that the number can have."""
        low, high = (min(max(end, least), greatest) for end in (self.low, self.high))
        return self if math.isnan(self.low) else replace(self, low=low, high=high)


@dataclass(frozen=True)
class Comparison:
    """A paired t-test of method ``a`` against method ``b`` on ``n`` common seeds.

    Attributes:
        difference: mean of a - b, with its 95 % confidence interval ``low`` to ``high``.
        p: two-sided p-value; NaN with fewer than two common seeds, and where all differences are the
            same but not 0: on few test images that happens by chance, and leaves no noise to measure by.
        p_holm: p corrected for all comparisons that were made together.
    """

    a: str
    b: str
    n: int
    difference: float
    low: float
    high: float
    p: float
    p_holm: float = math.nan

    def within(self, most: float) -> Comparison:
        """Return the comparison with its interval cut at the greatest difference that there can be."""
        if math.isnan(self.low):
            return self
        low, high = (min(max(end, -most), most) for end in (self.low, self.high))
        return replace(self, low=low, high=high)


def summarise(values: Sequence[float]) -> Summary:
    """Return mean, standard deviation and confidence interval of one number a seed; NaN is left out."""
    numbers = np.asarray([value for value in values if math.isfinite(value)], dtype=float)
    n = len(numbers)
    if n == 0:
        return Summary(0, math.nan, math.nan, math.nan, math.nan)
    mean = float(numbers.mean())
    if n == 1:
        return Summary(1, mean, math.nan, math.nan, math.nan)
    sd = float(numbers.std(ddof=1))
    if sd <= ROUNDING * float(np.abs(numbers).max()):
        return Summary(n, mean, 0.0, mean, mean)
    half = t_quantile(n - 1) * sd / math.sqrt(n)
    return Summary(n, mean, sd, mean - half, mean + half)


def compare_all(methods: Mapping[str, Mapping[int, float]]) -> list[Comparison]:
    """Compare every two methods, each a value a seed, corrected for all of these comparisons."""
    pairs = [_compare(a, b, methods[a], methods[b]) for a, b in itertools.combinations(methods, 2)]
    corrected = holm([pair.p for pair in pairs])
    return [replace(pair, p_holm=p) for pair, p in zip(pairs, corrected, strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected by Holm's step-down method; NaN ones are no comparison and stay NaN."""
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        corrected[i] = largest
    return corrected


def clear_winner(comparisons: Sequence[Comparison], best: str, better: int = 1) -> bool:
    """Whether ``best`` leads every method that it was compared with, beyond the noise and on common seeds.

    ``better`` is -1 where less is better.
    """
    own = [
        (pair.p_holm, pair.difference * (better if pair.a == best else -better))
        for pair in comparisons
        if best in (pair.a, pair.b)
    ]
    return bool(own) and all(p < 1 - LEVEL and lead > 0 for p, lead in own)


def _compare(a: str, b: str, first: Mapping[int, float], second: Mapping[int, float]) -> Comparison:
    from scipy.special import stdtr  # a tenth of the time that scipy.stats takes to import

    seeds = sorted(set(first) & set(second))
    x, y = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
    differences = summarise([p - q for p, q in zip(x, y, strict=True)])
    p = math.nan
    if differences.sd > ROUNDING * max(map(abs, (*x, *y)), default=0.0):
        t = abs(differences.mean) / differences.sd * math.sqrt(differences.n)
        p = 2 * float(stdtr(differences.n - 1, -t))
    elif len(seeds) > 1 and differences.mean == 0:
        p = 1.0
    return Comparison(a, b, len(seeds), differences.mean, differences.low, differences.high, p)


def t_quantile(freedom: int) -> float:
    """Return what a mean's standard error is multiplied by for its confidence interval, by n - 1."""
    from scipy.special import stdtrit

    return float(stdtrit(freedom, (1 + LEVEL) / 2))
