"""The time of a run: scoring, training, testing."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

import altair as alt

from prunelit.study.report.charts.chapters import PATHS_AND_TIME
from prunelit.study.report.charts.encodings import tips, wrapped
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.tables import RUNS

PARTS = ["scoring and pruning", "training", "testing"]
LINE = 24
"""Characters of a line of a method's name."""


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the bars of seconds by method; None if no run has any."""
    if frames["runs"]["train_seconds"].isna().all():
        return None
    caption = (
        "Mean seconds per run for each method, over all amounts and seeds: scoring and pruning, training "
        "without evaluations, and the final test."
    )
    size = (380, max(22, 14 * _lines(methods)) * len(methods) + 10)
    return Drawing(caption, _bars(methods), size=size)


def _lines(methods: Sequence[str]) -> int:
    return max(len(wrap(method, LINE, break_long_words=False)) for method in methods)


def _bars(methods: Sequence[str]) -> alt.Chart:
    middle = -6.5 * (_lines(methods) - 1)
    names = alt.Axis(labelExpr=wrapped(LINE), labelLimit=200, labelOffset=middle)
    fields: list[str | alt.FieldName] = ["prune_seconds", "train_seconds", "test_seconds"]
    return (
        alt.Chart()
        .transform_fold(fields, as_=["part", "seconds"])
        .transform_filter("isValid(datum.seconds)")
        .transform_aggregate(groupby=["setting", "method", "part"], seconds="mean(seconds)", runs="count()")
        .transform_calculate(
            place=f"indexof({fields}, datum.part)", part=f"{PARTS}[indexof({fields}, datum.part)]"
        )
        .mark_bar()
        .encode(
            alt.X("seconds:Q", title="Seconds", stack="zero", axis=alt.Axis(tickCount=6)),
            alt.Y("method:N", title=None, sort=list(methods), axis=names),
            alt.Color(
                "part:N", title=None, scale=alt.Scale(domain=PARTS, range=["#d55e00", "#9db4c8", "#44607a"])
            ),
            order=alt.Order("place:Q"),
            tooltip=tips(
                method="method", setting="network", part="part", seconds="seconds, mean|.3s", runs="runs"
            ),
        )
    )


FIGURE = Figure(PATHS_AND_TIME, 20, "Time of a run", RUNS, draw)
