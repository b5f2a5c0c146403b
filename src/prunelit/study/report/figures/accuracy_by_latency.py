"""Test accuracy against latency of the networks from which the empty units were cut out."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.charts.chapters import ACCURACY
from prunelit.study.report.charts.encodings import layered, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.frontier import frontier
from prunelit.study.report.charts.tables import RUNS
from prunelit.study.report.charts.theme import DENSE

CAPTION = (
    "Each mark is a run whose network can be made smaller. The time is the median of a forward pass of 64 "
    "inputs after the empty units were cut out, on the run's device and with its number of threads. A run "
    "is dominated, and drawn pale, if another run with the same network and data set is at least as accurate "
    "and not slower. The step line connects the runs that are not dominated. The dotted vertical line is "
    "the mean time of the dense network."
)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the plot; None if no accuracy of a network that was cut and timed is known."""
    runs = frames["runs"]
    if not (runs["top1"].notna() & (runs["latency_cut_64"] > 0)).any():
        return None
    axis = alt.X(
        "latency_cut_64:Q",
        title="Milliseconds for 64 inputs, network cut",
        scale=alt.Scale(zero=False),
        axis=alt.Axis(tickCount=8, labelOverlap=True),
    )
    dense = (
        alt.Chart()
        .transform_filter("datum.latency_dense_64 > 0")
        .transform_aggregate(groupby=["setting"], at="mean(latency_dense_64)")
        .mark_rule(strokeDash=[1, 3], strokeWidth=2, color=DENSE)
        .encode(x="at:Q", tooltip=tips(setting="network", at="dense network, mean milliseconds|.3g"))
    )
    return Drawing(CAPTION, layered(dense, frontier(methods, "latency_cut_64", axis)))


FIGURE = Figure(ACCURACY, 50, "Test accuracy and latency", RUNS, draw)
