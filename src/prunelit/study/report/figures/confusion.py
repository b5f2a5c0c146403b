"""The confusion matrices of a run, before and after pruning."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.class_names import name_axis, names_of_classes
from prunelit.study.report.charts.encodings import layered, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = [
    "when",
    "when_order",
    "true",
    "true_order",
    "predicted",
    "predicted_order",
    "share",
    "images",
    "classes",
]
MOST = 30
"""Classes of a confusion matrix; with more, the matrix is not shown."""
WHEN = {
    "confusion/test_before": "test set, before the last pruning",
    "confusion/test": "test set, at the end",
    "confusion/train": "training set, before the last pruning",
}


def confusion_rows(run: RunArrays) -> pd.DataFrame:
    """Return images and their share of the true class, for each matrix, true class and predicted class."""
    found = []
    names = names_of_classes(run.details)
    for order, (key, when) in enumerate(WHEN.items()):
        if key not in run.details or len(names) > MOST:
            continue
        matrix = run.details[key]
        shares = 100 * matrix / matrix.sum(axis=1, keepdims=True).clip(1)
        found += [
            (
                when,
                order,
                names[true],
                true,
                names[taken],
                taken,
                round(float(shares[true, taken]), 2),
                int(images),
                len(names),
            )
            for (true, taken), images in np.ndenumerate(matrix)
        ]
    return pd.DataFrame(found, columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the matrices; None if no run has any."""
    if frames["confusion"].empty:
        return None
    caption = (
        "Each cell shows the share of the images of a class (row) that are classified as a class (column). "
        "The diagonal shows correct classifications. Numbers are rounded percentages."
    )
    chart = _matrix(name_axis(frames["confusion"]["true"]))
    return Drawing(caption, chart, panel="when", size=(270, 270))


def _matrix(axis: alt.Axis) -> alt.LayerChart:
    order = alt.EncodingSortField("predicted_order", op="min")
    x = alt.X("predicted:N", title="Taken for", sort=order, axis=axis)
    y = alt.Y("true:N", title="Class", sort=alt.EncodingSortField("true_order", op="min"))
    rects = (
        alt.Chart()
        .mark_rect()
        .encode(
            x,
            y,
            alt.Color(
                "share:Q",
                title="Share of the class (%)",
                scale=alt.Scale(scheme="viridis", domain=[0, 100]),
                legend=alt.Legend(gradientLength=180),
            ),
            tooltip=tips(
                when="",
                true="class",
                predicted="taken for",
                share="share of the class (%)|.2f",
                images="images|,d",
            ),
        )
    )
    numbers = (
        alt.Chart()
        .transform_filter("datum.classes <= 12 && datum.share >= 0.5")
        .mark_text(fontSize=10)
        .encode(
            x,
            y,
            text=alt.Text("share:Q", format=".0f"),
            color=alt.when("datum.share > 60").then(alt.value("#111111")).otherwise(alt.value("#ffffff")),
        )
    )
    return layered(rects, numbers)


FIGURE = Figure(INSIDE_A_RUN, 60, "Confusion matrices", RunTable("confusion", confusion_rows), draw)
