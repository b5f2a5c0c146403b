"""Test accuracy against FLOPs, method by method."""

from __future__ import annotations

from collections.abc import Sequence

from prunelit.study.report.charts.chapters import ACCURACY
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.mean_curves import MEANS, flops_differ, mean_curves
from prunelit.study.report.charts.tables import RUNS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the curves; None if no pruned run is complete.

    If FLOPs are proportional to the kept parameters, the figure over compression shows the same.
    """
    runs = frames["runs"]
    if not (runs["top1"].notna() & ~runs["dense"]).any() or not flops_differ(runs):
        return None
    dense = " The dotted gray line is the mean of the dense network." if runs["dense"].any() else ""
    counted = " FLOPs are counted for one forward pass of one input; each layer is weighted by its density."
    chart = mean_curves(runs, methods, "flops_sparse", "top1", "Test accuracy")
    return Drawing(MEANS + dense + counted, chart)


FIGURE = Figure(ACCURACY, 20, "Test accuracy against FLOPs", RUNS, draw)
