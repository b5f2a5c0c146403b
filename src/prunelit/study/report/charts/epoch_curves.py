"""Accuracy or loss after every epoch, one panel for each method."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.charts.encodings import EPOCH_AXIS, layered, tips
from prunelit.study.report.charts.figure import Drawing, Frames
from prunelit.study.report.charts.tables import MOST_EPOCHS, amounts_in_order

CAPTION = (
    "Means over seeds, with one panel per method and one color per requested amount; darker colors mean "
    "less pruning. Solid lines: test set. Dashed lines: training set."
)


def epoch_drawing(frames: Frames, measure: str, height: alt.Y, more: str = "") -> Drawing | None:
    """Return ``top1`` or ``loss`` over epochs; None if no run was trained.

    Args:
        frames: the tables ``runs`` and ``epochs``.
        measure: the table has it with the prefixes ``train_`` and ``test_``.
        height: the axis.
        more: an addition to the caption.
    """
    if frames["epochs"].empty:
        return None
    longest = frames["epochs"].groupby("run").size().max()
    thinned = f" Longer trainings are shown with {longest} evenly spaced epochs."
    caption = CAPTION + (thinned if longest >= MOST_EPOCHS else "") + more
    chart = _curves(amounts_in_order(frames["runs"]), measure, height)
    return Drawing(caption, chart, panel="method_panel", size=(260, 180), own=("x",))


def _curves(amounts: Sequence[str], measure: str, height: alt.Y) -> alt.LayerChart:
    fields: list[str | alt.FieldName] = [f"test_{measure}", f"train_{measure}"]
    stroke = alt.Legend(symbolType="stroke")
    means = (
        alt.Chart()
        .transform_fold(fields, as_=["split", "value"])
        .transform_filter("isValid(datum.value) && datum.value > 0")
        .transform_aggregate(
            groupby=["method_panel", "asked", "epoch", "split"], value="mean(value)", seeds="distinct(seed)"
        )
        .transform_calculate(split="datum.split[1] === 'e' ? 'test' : 'training'")
        .transform_joinaggregate(epochs="count()", groupby=["method_panel", "asked", "split"])
        .encode(
            alt.X("epoch:Q", title="Epoch", axis=EPOCH_AXIS),
            height,
            color=alt.Color("asked:O", title=None, sort=list(amounts), legend=stroke),
            strokeDash=alt.StrokeDash(
                "split:N",
                title=None,
                scale=alt.Scale(domain=["test", "training"], range=[[1, 0], [3, 3]]),
                legend=stroke,
            ),
            tooltip=tips(
                method_panel="method",
                asked="requested amount",
                split="set",
                epoch="epoch|d",
                value="mean over seeds|.3f",
                seeds="seeds",
            ),
        )
    )
    lines = means.mark_line(strokeWidth=1.5)
    rings = means.transform_filter("datum.epochs == 1").mark_point(
        size=30
    )  # a line with one epoch is invisible
    return layered(lines, rings)
