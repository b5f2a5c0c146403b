"""Which input pixels keep their connections, as an image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.encodings import square_cells
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = ["layer", "layer_order", "row", "column", "kept"]


def pixel_rows(run: RunArrays) -> pd.DataFrame:
    """Return the kept share by input pixel of a fully connected first layer on square images, in percent.

    Color channels of a pixel are added. Empty for other networks.
    """
    layer = next(iter(run.totals), "")
    kept = run.details.get(f"kept_by_input/{layer}") if layer else None
    if kept is None:
        return pd.DataFrame(columns=COLUMNS)
    for channels in (1, 3):
        side = math.isqrt(len(kept) // channels)
        if channels * side * side == len(kept) and side >= 4:
            share = 100 * kept.reshape(channels, side, side).sum(0) * side * side / run.totals[layer]
            found = [
                (layer, 0, row, column, round(float(v), 2)) for (row, column), v in np.ndenumerate(share)
            ]
            return pd.DataFrame(found, columns=COLUMNS)
    return pd.DataFrame(columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the image; None if no run has a fully connected first layer on square images."""
    if frames["pixels"].empty:
        return None
    caption = "Kept share of the connections of each input pixel to the first layer, shown as an image."
    return Drawing(caption, _picture(), panel="layer", columns=1, size=(12, 12), cells=("column", "row"))


def _picture() -> alt.Chart:
    color = alt.Color("kept:Q", title="Kept (%)", scale=alt.Scale(scheme="viridis", domainMin=0))
    return square_cells(color, row="row", column="column", kept="connections kept (%)|.2f")


FIGURE = Figure(INSIDE_A_RUN, 30, "Connections kept, by input pixel", RunTable("pixels", pixel_rows), draw)
