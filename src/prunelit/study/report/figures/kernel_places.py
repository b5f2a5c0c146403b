"""Where in the kernels of each layer connections remain."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.encodings import square_cells
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = ["layer", "layer_order", "row", "column", "kept"]


def position_rows(run: RunArrays) -> pd.DataFrame:
    """Return a row for each layer and place in its kernels: the percentage of kernels that keep it."""
    weights = run.weights
    found = []
    for order, layer in enumerate(run.layers_with_weights):
        if weights[layer].ndim == 4 and max(weights[layer].shape[2:]) > 1:
            kept = 100 * (weights[layer] != 0).mean(axis=(0, 1))
            found += [
                (layer, order, row, column, round(float(v), 3)) for (row, column), v in np.ndenumerate(kept)
            ]
    return pd.DataFrame(found, columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the heat maps; None where no run has kernels of more than one place."""
    if frames["places"].empty:
        return None
    return Drawing(
        "Share of the kernels of each layer that keep the weight at this position. The color range differs "
        "between layers; hover to see the numbers.",
        _heat_maps(),
        panel="layer",
        columns=6,
        size=(18, 18),
        cells=("column", "row"),
        own=("x", "y", "color"),
    )


def _heat_maps() -> alt.Chart:
    color = alt.Color("kept:Q", scale=alt.Scale(scheme="viridis"), legend=None)
    return square_cells(color, layer="layer", row="row", column="column", kept="kernels that keep it (%)|.2f")


FIGURE = Figure(
    INSIDE_A_RUN, 50, "Connections kept, by position in the kernel", RunTable("places", position_rows), draw
)
