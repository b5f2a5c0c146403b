"""What a run costs: scoring, training, testing."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.figures.figure import Figure, Frames, tips

PARTS = ["scoring and pruning", "training", "testing"]


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return the bars of seconds by method; nothing if no run has any."""
    if frames["runs"]["train_seconds"].isna().all():
        return []
    return [
        Figure(
            "times",
            "Time of a run",
            "Mean seconds of a run by method, over all amounts and seeds: scoring and pruning, training "
            "without its test passes, and the final test.",
            _bars(methods),
            "runs",
            size=(380, 22 * len(methods) + 10),
        )
    ]


def _bars(methods: Sequence[str]) -> alt.Chart:
    fields: list[str | alt.FieldName] = ["prune_seconds", "train_seconds", "test_seconds"]
    return (
        alt.Chart()
        .transform_fold(fields, as_=["part", "seconds"])
        .transform_filter("isValid(datum.seconds)")
        .transform_aggregate(groupby=["setting", "method", "part"], seconds="mean(seconds)", runs="count()")
        .transform_calculate(
            place=f"indexof({fields}, datum.part)", part=f"{PARTS}[indexof({fields}, datum.part)]"
        )
        .mark_bar()
        .encode(
            alt.X("seconds:Q", title="Seconds", stack="zero", axis=alt.Axis(tickCount=6)),
            alt.Y("method:N", title=None, sort=list(methods)),
            alt.Color(
                "part:N", title=None, scale=alt.Scale(domain=PARTS, range=["#d55e00", "#9db4c8", "#44607a"])
            ),
            order=alt.Order("place:Q"),
            tooltip=tips(
                method="method", setting="network", part="part", seconds="seconds, mean|.3s", runs="runs"
            ),
        )
    )
