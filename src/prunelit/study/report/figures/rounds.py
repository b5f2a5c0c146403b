"""How accuracy falls and recovers in runs that prune several times."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.figures.figure import (
    EPOCHS,
    Figure,
    Frames,
    by_method,
    layered,
    method_marks,
    percent,
    tips,
)


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return accuracy of iterative runs over epochs and over sparsity; nothing if there are none."""
    found = []
    if frames["round_epochs"].shape[0]:
        found.append(
            Figure(
                "rounds_by_epoch",
                "Iterative pruning: test accuracy after each epoch",
                "A line a run. Marks stand at the first epoch after each pruning, filled ones; hover for the "
                "sparsity it was trained at.",
                _over_epochs(methods),
                "round_epochs",
            )
        )
    if frames["rounds"].shape[0]:
        found.append(
            Figure(
                "rounds_by_sparsity",
                "Iterative pruning: test accuracy at each sparsity",
                "A line a run: accuracy at the end of the training that followed each pruning. The thin "
                "strokes reach to the accuracy just after the pruning, before that training.",
                _over_sparsity(methods),
                "rounds",
            )
        )
    return found


def _over_epochs(methods: Sequence[str]) -> alt.LayerChart:
    base = alt.Chart().transform_filter("isValid(datum.test_top1)")
    x, y = (
        alt.X("epoch:Q", title="Epoch", axis=EPOCHS),
        percent("test_top1", "Test accuracy"),
    )
    hover = tips(
        name="run",
        method="method",
        asked="asked for",
        seed="seed",
        epoch="epoch|d",
        test_top1="accuracy (%)|.2f",
        sparsity="sparsity (%)|.2f",
    )
    lines = base.mark_line(strokeWidth=1.5).encode(x, y, detail="run:N", **by_method(methods))
    marks = base.transform_filter("datum.pruned").mark_point(size=35, filled=True, opacity=1)
    return layered(lines, marks.encode(x, y, **method_marks(methods), tooltip=hover))


def _over_sparsity(methods: Sequence[str]) -> alt.LayerChart:
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
