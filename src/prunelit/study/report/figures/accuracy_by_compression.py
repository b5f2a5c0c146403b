"""Test accuracy against compression, method by method."""

from __future__ import annotations

from collections.abc import Sequence

from prunelit.study.report.charts.chapters import ACCURACY
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.mean_curves import BESIDE, MEANS, flops_differ, mean_curves
from prunelit.study.report.charts.tables import RUNS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the curves; None if no pruned run is complete."""
    runs = frames["runs"]
    if not (runs["top1"].notna() & ~runs["dense"]).any():
        return None
    dense = " The dotted gray line is the mean of the dense network." if runs["dense"].any() else ""
    follow = " FLOPs are proportional to the kept parameters here, so they have no separate figure."
    more = follow if runs["flops_sparse"].notna().any() and not flops_differ(runs) else ""
    chart = mean_curves(runs, methods, "compression", "top1", "Test accuracy")
    return Drawing(MEANS + BESIDE + dense + more, chart)


FIGURE = Figure(ACCURACY, 10, "Test accuracy against compression", RUNS, draw)
