"""Pareto frontier: test accuracy and FLOPs: the runs that are not dominated."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.charts.chapters import ACCURACY
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.frontier import CAPTION, frontier
from prunelit.study.report.charts.mean_curves import FLOPS, LOG, SI, flops_differ
from prunelit.study.report.charts.tables import RUNS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the frontier; None if FLOPs are proportional to the kept parameters."""
    runs = frames["runs"]
    if runs["top1"].notna().sum() < 2 or not flops_differ(runs):
        return None
    axis = alt.X("flops_sparse:Q", title=FLOPS, scale=LOG, axis=SI)
    return Drawing(CAPTION, frontier(methods, "flops_sparse", axis))


FIGURE = Figure(ACCURACY, 40, "Pareto frontier: test accuracy and FLOPs", RUNS, draw)
