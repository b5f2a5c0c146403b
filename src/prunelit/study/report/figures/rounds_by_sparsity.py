"""The accuracy at each sparsity of runs that prune several times."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from prunelit.study.report.charts.chapters import ITERATIVE_PRUNING
from prunelit.study.report.charts.encodings import (
    by_method,
    layered,
    method_marks,
    percent,
    tips,
)
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.tables import StudyRows, StudyTable

COLUMNS = ["run", "round", "sparsity", "top1_before", "top1_after", "last_top1"]


def sparsity_rows(study: StudyRows) -> pd.DataFrame:
    """Return a row for each pruning of runs that prune several times."""
    if study.rounds.empty:
        return pd.DataFrame(columns=COLUMNS)
    return study.rounds.assign(sparsity=100 * study.rounds["sparsity_after"]).reindex(columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return a line for each iterative run; None if there are none."""
    if frames["rounds"].empty:
        return None
    caption = (
        "Each line is a run and shows the accuracy at the end of the training after each pruning. Thin "
        "strokes extend to the accuracy immediately after the pruning, before this training."
    )
    return Drawing(caption, _lines(methods))


def _lines(methods: Sequence[str]) -> alt.LayerChart:
    base = alt.Chart().transform_filter("isValid(datum.last_top1)")
    x, y = percent("sparsity", "Sparsity", alt.X), percent("last_top1", "Test accuracy")
    hover = tips(
        name="run",
        method="method",
        seed="seed",
        round="round|d",
        sparsity="sparsity (%)|.2f",
        top1_before="accuracy before pruning (%)|.2f",
        top1_after="just after (%)|.2f",
        last_top1="after training (%)|.2f",
    )
    drops = (
        base.transform_filter("isValid(datum.top1_after)")
        .mark_rule(strokeWidth=1, opacity=0.5)
        .encode(x, alt.Y("top1_after:Q"), alt.Y2("last_top1:Q"), color=by_method(methods)["color"])
    )
    lines = base.mark_line(strokeWidth=1.5).encode(x, y, detail="run:N", **by_method(methods))
    marks = base.mark_point(size=35, filled=True, opacity=1)
    return layered(drops, lines, marks.encode(x, y, **method_marks(methods), tooltip=hover))


FIGURE = Figure(
    ITERATIVE_PRUNING,
    20,
    "Iterative pruning: test accuracy at each sparsity",
    StudyTable("rounds", sparsity_rows),
    draw,
)
