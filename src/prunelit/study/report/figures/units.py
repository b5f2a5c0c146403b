"""Which neurons keep their connections: sorted shares by layer."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.chapters import INSIDE_A_RUN
from prunelit.study.report.charts.encodings import percent, tips
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.run_arrays import RunArrays, RunTable

COLUMNS = ["layer", "layer_order", "side", "units", "rank", "kept", "empty"]
POINTS = 50
"""Points of a curve, at most."""
SIDES = {"outputs": "kept_by_output", "inputs": "kept_by_input"}


def unit_rows(run: RunArrays) -> pd.DataFrame:
    """Return the kept share of the units of each layer, most connected first, at up to 50 ranks."""
    found = []
    for order, (layer, total) in enumerate(run.totals.items()):
        for side, prefix in SIDES.items():
            if (name := f"{prefix}/{layer}") not in run.details:
                continue
            counts = np.sort(run.details[name])[::-1]
            ranks = np.unique(np.linspace(0, len(counts) - 1, min(POINTS, len(counts))).round().astype(int))
            shares = 100 * counts * len(counts) / total
            empty = int((counts == 0).sum())
            found += [
                (
                    layer,
                    order,
                    side,
                    len(counts),
                    round(100 * (rank + 0.5) / len(counts), 2),
                    round(shares[rank], 2),
                    empty,
                )
                for rank in ranks.tolist()
            ]
    return pd.DataFrame(found, columns=COLUMNS)


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the curves by layer; None if no run has any."""
    if frames["units"].empty:
        return None
    caption = (
        "The units of a layer (neurons, or channels of convolutions), from most to least connected. A flat "
        "line means that all units lost the same share. A step down to 0 means that some units lost all "
        "connections and can be removed."
    )
    return Drawing(caption, _curves(), panel="layer", columns=4, size=(190, 130))


def _curves() -> alt.Chart:
    return (
        alt.Chart()
        .mark_line(strokeWidth=2, interpolate="step")
        .encode(
            alt.X(
                "rank:Q",
                title="Units, most connected first (%)",
                scale=alt.Scale(domain=[0, 100]),
                axis=alt.Axis(values=[0, 25, 50, 75, 100]),
            ),
            percent("kept", "Connections kept", zero=True),
            color=alt.Color(
                "side:N", title=None, scale=alt.Scale(domain=list(SIDES), range=["#0072b2", "#d55e00"])
            ),
            strokeDash=alt.StrokeDash(
                "side:N", title=None, scale=alt.Scale(domain=list(SIDES), range=[[1, 0], [5, 3]])
            ),
            tooltip=tips(
                layer="layer",
                side="side",
                units="units|,d",
                rank="most connected (%)|.1f",
                kept="connections kept (%)|.2f",
                empty="units with none|,d",
            ),
        )
    )


FIGURE = Figure(INSIDE_A_RUN, 20, "Connections kept, by neuron", RunTable("units", unit_rows), draw)
