"""Accuracy against latency: which runs are dominated, and how long the dense network takes."""

from __future__ import annotations

import re

import pandas as pd
import vl_convert

from prunelit.study.report.figures import accuracy_by_latency
from prunelit.study.report.page.vega import VEGA_LITE


def runs_with(latencies: list[float | None], accuracies: list[float]) -> pd.DataFrame:
    """Return the runs of one method, whose dense networks take 8 and 10 milliseconds."""
    runs = pd.DataFrame({"latency_cut_64": latencies, "top1": accuracies, "seed": range(len(latencies))})
    runs["latency_dense_64"] = [8.0, 10.0] + [None] * (len(runs) - 2)
    one = {"setting": "fc on digits", "setting_order": 1, "method": "mag", "asked": "compression 1"}
    return runs.assign(name="r", dense=False, compression=1.0, kept=100, flops_sparse=1.0, **one)


def svg_of(runs: pd.DataFrame) -> str:
    figure = accuracy_by_latency.FIGURE.drawn({"runs": runs}, ["mag"])
    assert figure is not None
    rows = runs.astype(object).where(runs.notna(), None).to_dict("records")
    return str(vl_convert.vegalite_to_svg({**figure.spec, "datasets": {"runs": rows}}, vl_version=VEGA_LITE))


def test_slower_runs_that_are_no_more_accurate_are_pale() -> None:
    svg = svg_of(runs_with([4.0, 3.0, 5.0, 6.0, None], [80.0, 70.0, 75.0, 90.0, 99.0]))
    marks = re.findall(r'aria-roledescription="point"[^>]*? opacity="([\d.]+)"', svg)
    assert sorted(marks) == ["0.5", "1", "1", "1"], "the third run is dominated; the last was not timed"


def test_the_dense_network_is_a_line_at_its_mean() -> None:
    svg = svg_of(runs_with([4.0, 3.0], [80.0, 70.0]))
    assert "dense network, mean milliseconds: 9" in svg


def test_without_a_timed_network_there_is_no_figure() -> None:
    assert accuracy_by_latency.draw({"runs": runs_with([None, None], [80.0, 70.0])}, ["mag"]) is None
