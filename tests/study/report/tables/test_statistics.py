"""Statistics against numbers worked out by hand."""

from __future__ import annotations

import math

import pytest

from prunelit.study.report.tables.statistics import clear_winner, compare_all, holm, summarise


def test_an_interval_by_hand() -> None:
    # Mean 2.5; sum of squares 5, so sd = sqrt(5 / 3); t of 97.5 % with 3 degrees of freedom is 3.18245.
    found = summarise([1.0, 2.0, 3.0, 4.0])
    assert (found.n, found.mean) == (4, 2.5)
    assert found.sd == pytest.approx(math.sqrt(5 / 3))
    half = 3.18245 * math.sqrt(5 / 3) / 2
    assert (found.low, found.high) == (
        pytest.approx(2.5 - half, abs=1e-4),
        pytest.approx(2.5 + half, abs=1e-4),
    )


def test_one_seed_has_no_interval() -> None:
    found = summarise([93.0, math.nan])
    assert (found.n, found.mean) == (1, 93.0)
    assert math.isnan(found.sd)
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert summarise([]).n == 0


def test_a_paired_test_by_hand() -> None:
    # On seeds 0, 1, 2 the differences are 1, 2, 0: mean 1, sd 1, t = sqrt(3). With 2 degrees of freedom
    # the two-sided p-value is 1 - t / sqrt(t^2 + 2) = 1 - sqrt(3 / 5). Seeds 7 and 8 have no partner.
    (pair,) = compare_all({"a": {0: 90, 1: 92, 2: 94, 7: 50}, "b": {2: 94, 1: 90, 0: 89, 8: 10}})
    assert (pair.n, pair.difference) == (3, 1.0)
    assert pair.p == pytest.approx(1 - math.sqrt(3 / 5))
    assert pair.p_holm == pair.p
    half = 4.30265 / math.sqrt(3)
    assert (pair.low, pair.high) == (pytest.approx(1 - half, abs=1e-4), pytest.approx(1 + half, abs=1e-4))


def test_equal_results_are_no_difference_and_single_seeds_no_test() -> None:
    (same,) = compare_all({"a": {0: 10.0, 1: 10.0}, "b": {0: 10.0, 1: 10.0}})
    assert (same.difference, same.p) == (0.0, 1.0)
    # 0.3 on each of two seeds: a coincidence that a t-test would call certain.
    (steady,) = compare_all({"a": {0: 90.1, 1: 80.4}, "b": {0: 89.8, 1: 80.1}})
    assert steady.difference == pytest.approx(0.3)
    assert math.isnan(steady.p)
    assert not clear_winner([steady], "a")
    (one,) = compare_all({"a": {0: 10.0}, "b": {0: 90.0}})
    assert one.n == 1
    assert math.isnan(one.p)


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.6], [1.0, 1.0]),
        ([0.02, math.nan], [0.02, math.nan]),
    ],
)
def test_holm_by_hand(p: list[float], corrected: list[float]) -> None:
    assert holm(p) == pytest.approx(corrected, nan_ok=True)


def test_a_winner_leads_every_other_beyond_the_noise() -> None:
    good = {0: 90.0, 1: 90.1, 2: 90.2, 3: 90.1}
    bad = {seed: value - 20 + 0.01 * seed for seed, value in good.items()}
    near = {0: 90.1, 1: 90.0, 2: 90.1, 3: 90.2}
    assert clear_winner(compare_all({"good": good, "bad": bad}), "good")
    assert not clear_winner(compare_all({"good": good, "bad": bad, "near": near}), "good")
    assert not clear_winner([], "good")


def test_who_loses_on_the_common_seeds_is_no_winner() -> None:
    """Seeds that only one method has lift its mean, and say nothing of its lead."""
    lucky = {0: 50.0, 1: 51.0, 2: 52.0, 3: 90.0, 4: 91.0, 5: 92.0}
    solid = {0: 60.0, 1: 61.1, 2: 62.0}
    for first, second in (("lucky", "solid"), ("solid", "lucky")):
        methods = {"lucky": lucky, "solid": solid}
        pairs = compare_all({first: methods[first], second: methods[second]})
        assert pairs[0].p_holm < 0.001
        assert not clear_winner(pairs, "lucky")
        assert clear_winner(pairs, "lucky", better=-1)
