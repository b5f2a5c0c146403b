"""The runs that no other beats in both accuracy and size."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.figures.curves import COMPRESSION, LOG, SI, X
from prunelit.study.report.figures.figure import (
    RUN_TIPS,
    Figure,
    Frames,
    layered,
    method_marks,
    percent,
    tips,
)

CAPTION = (
    "Every mark is a run. A run is dominated, and grey, if another of the same network and data is at least "
    "as accurate and no larger. The step line joins the others: the best that is to be had at each size. "
    "Of several seeds the luckiest may be on the line."
)


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return the Pareto frontiers over FLOPs and over kept parameters."""
    runs = frames["runs"]
    if runs["top1"].notna().sum() < 2:
        return []
    return [
        Figure(
            "pareto_flops",
            "Pareto frontier: test accuracy and FLOPs",
            CAPTION,
            _frontier(methods, "flops_sparse", X["flops_sparse"]),
            "runs",
        ),
        Figure(
            "pareto_kept",
            "Pareto frontier: test accuracy and kept parameters",
            f"{CAPTION} {COMPRESSION} is 1 at 10 % kept, 2 at 1 %.",
            _frontier(methods, "kept", alt.X("kept:Q", title="Kept parameters", scale=LOG, axis=SI)),
            "runs",
        ),
    ]


def _frontier(methods: Sequence[str], cost: str, axis: alt.X) -> alt.LayerChart:
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
    height = percent("top1", "Test accuracy")
    hover = tips(**RUN_TIPS)
    grey = (
        runs.transform_filter("datum.dominated")
        .mark_point(size=30, opacity=0.7, color="gray", strokeWidth=1)
        .encode(axis, height, shape=method_marks(methods)["shape"], tooltip=hover)
    )
    front = runs.transform_filter("!datum.dominated")
    steps = front.mark_line(interpolate="step-after", color="gray", strokeWidth=1.5).encode(axis, height)
    marks = front.mark_point(size=70, filled=True, opacity=1).encode(
        axis, height, **method_marks(methods), tooltip=hover
    )
    return layered(grey, steps, marks)
