"""Scoring leaves no trace: with compression 0, a run is bit for bit the run without the callback."""

from __future__ import annotations

import pytest

from prunelit import SNIP, GraSP, Mag, Rand, SynFlow
from same_run import assert_same_run
from stock import Stranger, loader


@pytest.mark.parametrize(
    "criterion", [Rand(), Mag(), SNIP(), GraSP(), SynFlow()], ids=lambda c: type(c).__name__
)
def test_every_kind_of_criterion(criterion) -> None:
    assert_same_run(lambda: (Stranger(), loader()), criterion)
