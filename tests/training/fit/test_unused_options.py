"""Options that change nothing are not ignored silently."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from prunelit import Mag, Pruning
from prunelit.request import PruningWarning


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"round_to": 8}, "round_to=8 changes nothing without granularity=unit"),
        ({"ridge": 0.5}, "ridge=0.5 changes nothing without repair"),
        ({"share": 0.3, "rounds": 2}, "share=0.3 changes nothing without schedule=constant"),
        ({"schedule": "linear"}, "schedule=linear changes nothing without several rounds"),
        ({"grow": {"every": 5}}, r"grow\.every=5 changes nothing without grow\.at"),
    ],
)
def test_an_option_that_changes_nothing_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.warns(PruningWarning, match=message):
        Pruning(Mag(), sparsity=0.5, **options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"round_to": 8, "granularity": "unit"},
        {"round_to": 8, "flops": 0.5, "sparsity": None},
        {"granularity": "unit", "repair": 2, "ridge": 0.5},
        {"share": 0.3, "schedule": "constant"},
        {"schedule": "cubic", "rounds": 3},
        {"schedule": "cubic", "when": "epoch"},
        {"grow": {"at": "random", "every": 5}},
    ],
)
def test_an_option_that_is_used_is_not(options: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", PruningWarning)
        Pruning(Mag(), **{"sparsity": 0.5, **options})
