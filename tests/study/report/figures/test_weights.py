"""Histograms of weights, against numbers by hand."""

from __future__ import annotations

import numpy as np

from prunelit.study.report.charts.run_arrays import RunArrays
from prunelit.study.report.figures import weights


def test_coarser_histograms_hold_the_same_weights() -> None:
    counts = np.arange(64)
    details = {"before/fc": counts, "after/fc": counts // 2, "edges/fc": np.linspace(-1, 1, 65)}
    found = weights.weight_rows(RunArrays(details, {"fc": 64, "absent": 1}))
    assert len(found) == 32
    assert found["before"].tolist() == (counts[::2] + counts[1::2]).tolist()
    assert found["after"].sum() == (counts // 2).sum()
    assert (found["low"].iloc[0], found["high"].iloc[-1]) == (-1, 1)
    assert (found["high"].iloc[:-1].to_numpy() == found["low"].iloc[1:].to_numpy()).all()
