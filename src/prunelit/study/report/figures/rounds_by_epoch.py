"""How accuracy falls and recovers over the epochs of runs that prune several times."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from prunelit.study.report.charts.chapters import ITERATIVE_PRUNING
from prunelit.study.report.charts.encodings import (
    EPOCH_AXIS,
    by_method,
    layered,
    method_marks,
    percent,
    tips,
)
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.tables import StudyRows, StudyTable, thinned

COLUMNS = ["run", "epoch", "test_top1", "sparsity", "pruned"]


def epoch_rows(study: StudyRows) -> pd.DataFrame:
    """Return the epochs of iterative runs, and which of them come first after a pruning.

    Of long trainings 50 epochs, evenly spaced, and the first after each pruning.
    """
    iterative = study.epochs[study.epochs["run"].isin(study.rounds["run"].unique())]
    if iterative.empty:
        return pd.DataFrame(columns=COLUMNS)
    pruned = pd.MultiIndex.from_frame(iterative[["run", "epoch"]]).isin(
        pd.MultiIndex.from_frame(study.rounds[["run", "epoch"]])
    )
    table = iterative.assign(pruned=pruned, sparsity=100 * (1 - iterative["density"]))
    return table[thinned(iterative) | pruned].reindex(columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return a line for each iterative run; None if there are none."""
    if frames["round_epochs"].empty:
        return None
    caption = (
        "Each line is a run. A filled mark is the first epoch after a pruning; hover over it to see the "
        "sparsity."
    )
    return Drawing(caption, _lines(methods))


def _lines(methods: Sequence[str]) -> alt.LayerChart:
    base = alt.Chart().transform_filter("isValid(datum.test_top1)")
    x, y = (
        alt.X("epoch:Q", title="Epoch", axis=EPOCH_AXIS),
        percent("test_top1", "Test accuracy"),
    )
    hover = tips(
        name="run",
        method="method",
        asked="requested amount",
        seed="seed",
        epoch="epoch|d",
        test_top1="accuracy (%)|.2f",
        sparsity="sparsity (%)|.2f",
    )
    lines = base.mark_line(strokeWidth=1.5).encode(x, y, detail="run:N", **by_method(methods))
    marks = base.transform_filter("datum.pruned").mark_point(size=35, filled=True, opacity=1)
    return layered(lines, marks.encode(x, y, **method_marks(methods), tooltip=hover))


FIGURE = Figure(
    ITERATIVE_PRUNING,
    10,
    "Iterative pruning: test accuracy after each epoch",
    StudyTable("round_epochs", epoch_rows),
    draw,
)
