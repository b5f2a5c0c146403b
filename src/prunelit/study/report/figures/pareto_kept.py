"""Pareto frontier: test accuracy and kept parameters: the runs that are not dominated."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.charts.chapters import ACCURACY
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.frontier import CAPTION, frontier
from prunelit.study.report.charts.mean_curves import LOG, SI
from prunelit.study.report.charts.tables import RUNS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the frontier; None with fewer than two runs."""
    runs = frames["runs"]
    if runs["top1"].notna().sum() < 2:
        return None
    axis = alt.X("kept:Q", title="Kept parameters", scale=LOG, axis=SI)
    return Drawing(CAPTION, frontier(methods, "kept", axis))


FIGURE = Figure(ACCURACY, 30, "Pareto frontier: test accuracy and kept parameters", RUNS, draw)
