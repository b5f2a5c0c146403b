"""Loss and accuracy after every epoch, a panel a method."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.figures.figure import EPOCHS, Figure, Frames, layered, percent, tips

CAPTION = (
    "Means over seeds, a panel a method, a colour for each amount asked for: dark is the least pruned. "
    "Solid: test set; dashed: training set."
)


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return accuracy and loss over epochs; nothing where no run was trained."""
    if frames["epochs"].empty:
        return []
    longest = frames["epochs"].groupby("run").size().max()
    thinned = f" Of longer trainings {longest} epochs are drawn, spread evenly." if longest >= 50 else ""
    amounts = frames["runs"].sort_values("asked_compression")["asked"].drop_duplicates().tolist()
    return [
        Figure(
            "training_accuracy",
            "Training: accuracy after each epoch",
            CAPTION + thinned,
            _curves(amounts, "top1", percent("value", "Accuracy")),
            "epochs",
            panel="method_panel",
            size=(260, 180),
            own=("x",),
        ),
        Figure(
            "training_loss",
            "Training: loss after each epoch",
            f"{CAPTION}{thinned} Cross-entropy in nats, on a logarithmic axis.",
            _curves(
                amounts,
                "loss",
                alt.Y("value:Q", title="Loss (nats)", scale=alt.Scale(type="log", nice=False)),
            ),
            "epochs",
            panel="method_panel",
            size=(260, 180),
            own=("x",),
        ),
    ]


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
            alt.X("epoch:Q", title="Epoch", axis=EPOCHS),
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
                asked="asked for",
                split="set",
                epoch="epoch|d",
                value="mean over seeds|.3f",
                seeds="seeds",
            ),
        )
    )
    lines = means.mark_line(strokeWidth=1.5)
    rings = means.transform_filter("datum.epochs == 1").mark_point(size=30)  # a line of one epoch is not seen
    return layered(lines, rings)
