"""The Pareto frontier of accuracy and size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.charts.encodings import (
    RUN_TIPS,
    layered,
    method_marks,
    percent,
    tips,
)
from prunelit.study.report.charts.theme import DENSE

CAPTION = (
    "Each mark is a run. A run is dominated, and drawn pale, if another run with the same network and "
    "data set is at least as accurate and not larger. The step line connects the runs that are not "
    "dominated. It consists of single runs and therefore favors lucky seeds. A gray cross is a dense network."
)


def frontier(methods: Sequence[str], cost: str, axis: alt.X) -> alt.LayerChart:
    """Return all runs, and a step line through the Pareto frontier of accuracy and ``cost``."""
    order: list[alt.SortField | dict[str, str]] = [
        alt.SortField(cost, order="ascending"),
        alt.SortField("top1", order="descending"),
    ]
    runs = (
        alt.Chart()
        .transform_filter(f"isValid(datum.top1) && datum.{cost} > 0")
        .transform_window(best="max(top1)", frame=[None, 0], groupby=["setting"], sort=order)
        .transform_window(before="lag(best)", groupby=["setting"], sort=order)
        .transform_calculate(dominated="isValid(datum.before) && datum.top1 <= datum.before")
    )
    height, marked, hover = percent("top1", "Test accuracy"), method_marks(methods), tips(**RUN_TIPS)
    front = runs.transform_filter("!datum.dominated")
    steps = front.mark_line(interpolate="step-after", color=DENSE, strokeWidth=1.5).encode(axis, height)
    pale = (
        runs.transform_filter("datum.dominated && !datum.dense")
        .mark_point(size=38, filled=True, opacity=0.5)
        .encode(axis, height, **marked, tooltip=hover)
    )
    best = (
        front.transform_filter("!datum.dense")
        .mark_point(size=80, filled=True, opacity=1)
        .encode(axis, height, **marked, tooltip=hover)
    )
    dense = (
        runs.transform_filter("datum.dense")
        .mark_point(size=60, shape="cross", filled=True, color=DENSE, opacity=0.8)
        .encode(axis, height, tooltip=hover)
    )
    return layered(steps, pale, dense, best)
