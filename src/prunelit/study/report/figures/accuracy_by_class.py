"""The accuracy of a run class by class, before and after pruning."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.class_names import name_axis, names_of_classes
from prunelit.study.report.charts.encodings import percent, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = ["when", "class", "class_order", "accuracy"]
BY_CLASS = {"accuracy_by_class_before": "before the last pruning", "accuracy_by_class": "at the end"}


def class_rows(run: RunArrays) -> pd.DataFrame:
    """Return a row for each class and moment: its accuracy in percent (at most 100 classes, the first)."""
    names = names_of_classes(run.details)
    found = [
        (when, names[order], order, round(float(value), 2))
        for key, when in BY_CLASS.items()
        if key in run.details
        for order, value in enumerate(run.details[key][:100])
        if np.isfinite(value)
    ]
    return pd.DataFrame(found, columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the bars; None if no run has any."""
    if frames["classes"].empty:
        return None
    caption = (
        "Accuracy on the test set, at the end and immediately before the last pruning (of an untrained "
        "network if pruning precedes training)."
    )
    return Drawing(caption, _bars(name_axis(frames["classes"]["class"])), panel="", size=(700, 220))


def _bars(axis: alt.Axis) -> alt.Chart:
    order = list(BY_CLASS.values())
    return (
        alt.Chart()
        .mark_bar()
        .encode(
            alt.X("class:N", title="Class", sort=alt.EncodingSortField("class_order", op="min"), axis=axis),
            percent("accuracy", "Test accuracy", domain=[0, 100]),
            xOffset=alt.XOffset("when:N", sort=order),
            color=alt.Color(
                "when:N", title=None, scale=alt.Scale(domain=order, range=["#b8bcc2", "#0072b2"])
            ),
            tooltip=tips(**{"class": "class"}, when="moment", accuracy="accuracy (%)|.2f"),
        )
    )


FIGURE = Figure(INSIDE_A_RUN, 70, "Accuracy by class", RunTable("classes", class_rows), draw)
