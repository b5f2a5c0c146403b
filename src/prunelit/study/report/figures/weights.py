"""Histograms of the weights of a run, before and after its last pruning."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.encodings import layered, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = ["layer", "layer_order", "low", "high", "before", "after"]
BINS = 32
"""Bars of a layer: records have twice as many, too fine for a small panel."""


def weight_rows(run: RunArrays) -> pd.DataFrame:
    """Return a row for each layer and bin: its edges, and how many weights lie there before and after."""
    found = []
    for order, layer in enumerate(run.totals):
        if f"after/{layer}" not in run.details:
            continue
        edges = run.details[f"edges/{layer}"]
        step = max(1, (len(edges) - 1) // BINS)
        before, after = (
            np.add.reduceat(run.details[f"{when}/{layer}"], range(0, len(edges) - 1, step))
            for when in ("before", "after")
        )
        bounds = np.append(edges[:-1:step], edges[-1])
        found += [
            (layer, order, float(low), float(high), int(b), int(a))
            for low, high, b, a in zip(bounds, bounds[1:], before, after, strict=False)
        ]
    return pd.DataFrame(found, columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the histograms; None if no run has any."""
    if frames["weights"].empty:
        return None
    caption = (
        "Gray: all weights of the layer immediately before the last pruning. Color: the weights that were "
        "kept."
    )
    return Drawing(caption, _histogram(), panel="layer", columns=4, size=(190, 120))


def _histogram() -> alt.LayerChart:
    x = alt.X("low:Q", title="Weight", axis=alt.Axis(format="~g", tickCount=4))
    colors = alt.Scale(domain=["before pruning", "kept"], range=["#b8bcc2", "#0072b2"])
    hover = tips(layer="layer", low="from|.4f", high="to|.4f", before="before|,d", after="kept|,d")

    def bars(field: str, name: str) -> alt.Chart:
        return (
            alt.Chart()
            .transform_calculate(what=f"'{name}'")
            .mark_bar(binSpacing=0, orient="vertical")
            .encode(
                x,
                alt.X2("high:Q"),
                alt.Y(f"{field}:Q", title="Weights", stack=None, axis=alt.Axis(format="~s", tickCount=4)),
                color=alt.Color("what:N", scale=colors, title=None),
                tooltip=hover,
            )
        )

    return layered(bars("before", "before pruning"), bars("after", "kept"))


FIGURE = Figure(INSIDE_A_RUN, 10, "Weights before and after pruning", RunTable("weights", weight_rows), draw)
