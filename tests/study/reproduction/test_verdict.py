"""A published number agrees if one more run of ours might give it, and not merely if it is near."""

from __future__ import annotations

import pytest

from prunelit.study.report.tables.statistics import summarise
from prunelit.study.reproduction.verdict import Evidence, verdict


def word(values: list[float], theirs: str, **more: object) -> str:
    return verdict(Evidence(summarise(values), theirs, **more)).word  # type: ignore[arg-type]


def test_the_interval_is_that_of_one_more_run() -> None:
    """80, 81, 82: sd 1, t(2) = 4.3027, so 81 ± 4.968; the mean's own interval is ± 2.484."""
    assert word([80, 81, 82], "85.96") == "agrees"
    assert word([80, 81, 82], "85.98") == "differs"
    assert word([80, 81, 82], "76.04") == "agrees"


def test_a_rounded_number_may_stand_for_any_that_rounds_to_it() -> None:
    assert word([3.38, 3.38, 3.38], "3.4") == "agrees"
    assert word([3.38, 3.38, 3.38], "3.40") == "differs"
    assert word([51.6, 51.6, 51.6], "52") == "agrees"


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"scale": 0.1}, "run at scale 0.1"),
        ({"otherwise": "epochs=1"}, "run with epochs=1"),
        ({"values": [81.0, 81.0]}, "a spread takes 3 seeds"),
    ],
)
def test_what_was_run_otherwise_is_no_agreement(more: dict, why: str) -> None:
    values = more.pop("values", [81.0, 81.0, 81.0])
    found = verdict(Evidence(summarise(values), "81.0", **more))
    assert (found.word, found.why) == ("open", why)


def test_a_doubtful_number_is_called_so_whether_it_was_run_or_not() -> None:
    for values in ([], [81.0, 81.0, 81.0]):
        found = verdict(Evidence(summarise(values), "81.0", doubt="a typing error"))
        assert (found.word, found.why) == ("doubtful", "a typing error")
    assert word([81.0] * 3, "") == "doubtful"


def test_a_difference_is_explained_or_said_not_to_be() -> None:
    assert verdict(Evidence(summarise([1.0, 1.0, 1.0]), "2.0")).why == "not explained"
    assert verdict(Evidence(summarise([1.0, 1.0, 1.0]), "2.0", reason="other images")).why == "other images"


def test_networks_of_ten_are_compared_as_counts() -> None:
    """4 of 10 is like 1 of 10 (Fisher's exact test, p = 0.30), and unlike 10 of 10 (p = 0.01)."""
    assert word([10.0] + [0.0] * 9, "4", of_ten=True) == "agrees"
    assert word([10.0] * 10, "4", of_ten=True) == "differs"
    assert word([0.0] * 10, "0", of_ten=True) == "agrees"


def test_nothing_run_is_said_so() -> None:
    assert word([], "81.0") == "not run"
