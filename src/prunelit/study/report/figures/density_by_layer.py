"""How much of each layer is kept, method by method."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from prunelit.study.report.charts.chapters import LAYERS
from prunelit.study.report.charts.encodings import layered, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.tables import StudyRows, StudyTable, amounts_in_order

COLUMNS = ["run", "layer", "layer_order", "density", "kept", "total"]
MOST_AMOUNTS, MOST_LAYERS = 8, 24
"""The numbers of amounts and layers up to which cells show numbers."""


def layer_rows(study: StudyRows) -> pd.DataFrame:
    """Return a row for each layer of each pruned run: its density, in percent."""
    if study.layers.empty:
        return pd.DataFrame(columns=COLUMNS)
    dense = study.runs.loc[study.runs["dense"], "run"]
    layers = study.layers[~study.layers["run"].isin(dense)]
    order = layers.groupby("run").cumcount()
    return layers.assign(layer_order=order, density=100 * layers["density"])[COLUMNS]


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the heat map of density by layer; None if unknown for all runs."""
    if frames["layers"].empty:
        return None
    layers = int(frames["layers"].groupby("run").size().max())
    amounts = amounts_in_order(frames["runs"][~frames["runs"]["dense"]])
    caption = (
        "Density of each layer in percent, mean over seeds, from the first layer (top) to the last. The "
        "color scale is logarithmic. A cross marks a layer that keeps nothing in at least one run."
    )
    return Drawing(
        caption,
        _heat_map(amounts, numbers=len(amounts) <= MOST_AMOUNTS and layers <= MOST_LAYERS),
        panel="method_panel",
        size=(max(220, 40 * len(amounts)), min(420, max(120, 20 * layers))),
    )


def _heat_map(amounts: Sequence[str], numbers: bool) -> alt.LayerChart:
    cells = alt.Chart().transform_aggregate(
        groupby=["method_panel", "asked", "layer", "layer_order"],
        density="mean(density)",
        least="min(kept)",
        total="max(total)",
        seeds="count()",
    )
    x = alt.X("asked:O", sort=list(amounts), **_labels(amounts))
    y = alt.Y("layer:O", title=None, sort=alt.EncodingSortField("layer_order", op="min"))
    color = alt.Color(
        "shown:Q",
        title="Density (%)",
        scale=alt.Scale(type="log", domain=[0.01, 100], scheme="viridis", clamp=True, reverse=True),
        legend=alt.Legend(format="~g", gradientLength=180, values=[0.01, 0.1, 1, 10, 100]),
    )
    hover = tips(
        method_panel="method",
        asked="requested amount",
        layer="layer",
        density="density, mean (%)|.3f",
        total="parameters|,d",
        seeds="runs",
    )
    rects = (
        cells.transform_calculate(shown="max(datum.density, 0.01)")
        .mark_rect()
        .encode(x, y, color, tooltip=hover)
    )
    crosses = (
        cells.transform_filter("datum.least == 0")
        .mark_text(text="×", fontSize=18, fontWeight="bold")
        .encode(
            x,
            y,
            color=alt.when("datum.density > 1").then(alt.value("#ffffff")).otherwise(alt.value("#111111")),
            tooltip=hover,
        )
    )
    return layered(rects, *([_numbers(cells, x, y)] if numbers else []), crosses)


def _labels(amounts: Sequence[str]) -> dict[str, Any]:
    """Return title and labels of an axis of amounts: if all start with one word, it is the title."""
    words = {amount.rpartition(" ")[0] for amount in amounts}
    if len(words) != 1 or "" in words:
        return {
            "title": None,
            "axis": alt.Axis(labelAngle=-35, labelLimit=110, labelOverlap=len(amounts) > 8),
        }
    (word,) = words
    short = f"slice(datum.label, {len(word) + 1})"
    axis = alt.Axis(labelAngle=0, labelLimit=60, labelOverlap=True, labelExpr=short)
    return {"title": word.capitalize(), "axis": axis}


def _numbers(cells: alt.Chart, x: alt.X, y: alt.Y) -> alt.Chart:
    """Return the density in each cell that has no cross."""
    return (
        cells.transform_filter("datum.least > 0")
        .mark_text(fontSize=9.5)
        .encode(
            x,
            y,
            text=alt.Text("density:Q", format=".3~g"),
            color=alt.when("datum.density > 1").then(alt.value("#ffffff")).otherwise(alt.value("#111111")),
        )
    )


FIGURE = Figure(LAYERS, 10, "Density by layer", StudyTable("layers", layer_rows), draw)
