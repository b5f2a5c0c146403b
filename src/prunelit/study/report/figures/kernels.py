"""The kernels of the first layer of a run as images."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.encodings import layered, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = ["layer", "layer_order", "kernel", "row", "column", "x", "y", "weight"]
MOST = 64
"""Kernels of the first layer that are shown."""
ACROSS = 16


def kernel_rows(run: RunArrays) -> pd.DataFrame:
    """Return a row for each pixel of the first convolution's kernels, in one row; 0 is pruned.

    Rows without a weight make the gaps between kernels.
    """
    weights = run.weights
    first = next((layer for layer in run.layers_with_weights if weights[layer].ndim == 4), None)
    if first is None or max(weights[first].shape[2:]) == 1:
        return pd.DataFrame(columns=COLUMNS)
    _, inputs, height, width = weights[first].shape
    chosen = weights[first].reshape(-1, height, width)[:MOST]
    found: list[tuple[object, ...]] = []
    for number, kernel in enumerate(chosen):
        top, left = number // ACROSS * (height + 1), number % ACROSS * (width + 1)
        name = f"output {number // inputs}, input {number % inputs}"
        found += [
            (first, 0, name, row, column, left + column, top + row, float(f"{value:.3g}"))
            for (row, column), value in np.ndenumerate(kernel)
        ]
    across, down = min(ACROSS, len(chosen)), -(-len(chosen) // ACROSS)
    gaps = [(number * (width + 1) - 1, 0) for number in range(1, across)]
    gaps += [(0, number * (height + 1) - 1) for number in range(1, down)]
    found += [(first, 0, "", 0, 0, x, y, None) for x, y in gaps]
    return pd.DataFrame(found, columns=COLUMNS).astype({"weight": float})


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the kernels; None where no run has convolutions."""
    if frames["kernels"].empty:
        return None
    caption = (
        f"Final weights of the first kernels ({MOST} at most). Blue is negative, orange is positive, and a "
        "dot marks a pruned weight."
    )
    return Drawing(caption, _pictures(), panel="layer", columns=1, size=(14, 14), cells=("x", "y"))


def _pictures() -> alt.LayerChart:
    base = alt.Chart()
    x, y = alt.X("x:O", axis=None, sort="ascending"), alt.Y("y:O", axis=None, sort="ascending")
    hover = tips(kernel="kernel", row="row", column="column", weight="weight|.3g")
    color = alt.Color(
        "weight:Q",
        title="Weight",
        scale=alt.Scale(scheme="blueorange", domainMid=0),
        legend=alt.Legend(format="~g", gradientLength=180),
    )
    cells = base.transform_filter("isValid(datum.weight)").mark_rect().encode(x, y, color, tooltip=hover)
    gaps = base.mark_rect(opacity=0).encode(x, y)
    pruned = base.transform_filter("datum.weight == 0").mark_circle(size=5, color="gray", opacity=1)
    return layered(gaps, cells, pruned.encode(x, y, tooltip=hover))


FIGURE = Figure(INSIDE_A_RUN, 40, "Kernels of the first layer", RunTable("kernels", kernel_rows), draw)
