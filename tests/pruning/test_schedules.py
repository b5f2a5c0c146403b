"""Density after each round."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prunelit.pruning.schedules import SCHEDULES, constant, cubic, exponential, linear, rounds_to_reach


def test_exponential_removes_one_share_of_what_remains() -> None:
    # 1 -> 0.001 in three rounds: a tenth is left each time.
    assert [exponential(r, 3, 0.001) for r in (1, 2, 3)] == pytest.approx([0.1, 0.01, 0.001])
    # 0.8 -> 0.2 in two rounds: half is left each time.
    assert exponential(1, 2, 0.2, start=0.8) == pytest.approx(0.4)


def test_linear_removes_one_number() -> None:
    assert [linear(r, 4, 0.2) for r in (1, 2, 3, 4)] == pytest.approx([0.8, 0.6, 0.4, 0.2])
    assert linear(1, 2, 0.1, start=0.5) == pytest.approx(0.3)


def test_cubic_removes_much_first() -> None:
    # d + (1 - d) (1 - r/4)^3 with d = 0.2: 27/64, 8/64 and 1/64 of 0.8 are still to go.
    assert [cubic(r, 4, 0.2) for r in (1, 2, 3, 4)] == pytest.approx([0.5375, 0.3, 0.2125, 0.2])


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(sorted(SCHEDULES)),
    rounds=st.integers(1, 120),
    start=st.floats(0.01, 1),
    share=st.floats(0, 1),
)
def test_every_schedule_ends_exactly_and_never_rises(
    name: str, rounds: int, start: float, share: float
) -> None:
    density = share * start
    path = [start] + [SCHEDULES[name](r, rounds, density, start) for r in range(1, rounds + 1)]
    assert path[-1] == density
    assert all(b <= a * (1 + 1e-12) for a, b in pairwise(path))
    assert all(d >= density * (1 - 1e-12) for d in path)


def test_constant_share_of_what_remains() -> None:
    assert [constant(r, 0.1) for r in (1, 2, 3)] == pytest.approx([0.9, 0.81, 0.729])
    assert constant(0, 0.1) == 1


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5, 0.9])
def test_rounds_to_reach_is_the_first_round_that_gets_there(share: float) -> None:
    assert [rounds_to_reach(constant(r, share), share) for r in range(30)] == list(range(30))
    for density in (0.99, 0.7, 0.31622776601683794, 0.1, 0.003):
        rounds = rounds_to_reach(density, share)
        assert constant(rounds, share) <= density < constant(rounds - 1, share)


def test_rounds_to_reach_forgives_rounding_errors() -> None:
    # In floating point 0.9 ** 3 is 0.7290000000000001.
    assert rounds_to_reach(0.729, 0.1) == 3
    assert rounds_to_reach(0.81, 0.1) == 2
    assert rounds_to_reach(0.5 * 0.81, 0.1, start=0.5) == 2
    assert rounds_to_reach(0.7, 0.2, start=0.5) == 0
    assert math.isclose(constant(2, 0.1, start=0.5), 0.405)
