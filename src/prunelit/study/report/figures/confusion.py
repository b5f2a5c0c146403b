"""What a run mistakes for what, and its accuracy class by class, before and after pruning."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.figures.figure import Figure, Frames, layered, percent, tips

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
CLASSES = ["when", "class", "class_order", "accuracy"]
MOST = 30
"""Classes of a confusion matrix; with more, only the accuracies by class are shown."""
WHEN = {
    "confusion/test_before": "test set, before the last pruning",
    "confusion/test": "test set, at the end",
    "confusion/train": "training set, before the last pruning",
}
BY_CLASS = {"accuracy_by_class_before": "before the last pruning", "accuracy_by_class": "at the end"}


def rows(details: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return a row a matrix, true class and predicted class: images, and their share of the true class."""
    found = []
    names = _names(details)
    for order, (key, when) in enumerate(WHEN.items()):
        if key not in details or len(names) > MOST:
            continue
        matrix = details[key]
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


def classes(details: Mapping[str, np.ndarray]) -> pd.DataFrame:
    """Return a row a class and moment: its accuracy in percent (at most 100 classes, the first)."""
    names = _names(details)
    found = [
        (when, names[order], order, round(float(value), 2))
        for key, when in BY_CLASS.items()
        if key in details
        for order, value in enumerate(details[key][:100])
        if np.isfinite(value)
    ]
    return pd.DataFrame(found, columns=CLASSES)


def _names(details: Mapping[str, np.ndarray]) -> list[str]:
    """Return the class names, the number added where two are the same."""
    names = [str(name) for name in details["class_names"]] if "class_names" in details else []
    return [f"{name} ({number})" if names.count(name) > 1 else name for number, name in enumerate(names)]


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return the matrices and the accuracies by class; nothing if no run has any."""
    found = []
    if len(frames["confusion"]):
        found.append(
            Figure(
                "confusion",
                "Confusion matrices",
                "Of the images of a class (row), the share that is taken for each class (column). "
                "On the diagonal: right. Numbers are rounded percentages.",
                _matrix(_slant(frames["confusion"]["true"])),
                "confusion",
                panel="when",
                size=(270, 270),
                of_run=True,
            )
        )
    if len(frames["classes"]):
        found.append(
            Figure(
                "accuracy_by_class",
                "Accuracy by class",
                "On the test set, at the end and just before the last pruning (which, for pruning before "
                "training, is an untrained network).",
                _bars(_slant(frames["classes"]["class"])),
                "classes",
                panel="",
                size=(700, 220),
                of_run=True,
            )
        )
    return found


def _slant(names: pd.Series[str]) -> alt.Axis:
    """Return an axis that writes short names upright and others at a slant."""
    return alt.Axis(labelAngle=0 if names.str.len().max() <= 3 else -45, labelLimit=110)


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
    figures = (
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
    return layered(rects, figures)


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
