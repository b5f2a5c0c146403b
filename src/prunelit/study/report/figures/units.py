"""Which neurons keep their connections: sorted shares by layer, and input pixels as a picture."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.figures.figure import Figure, Frames, percent, tips

COLUMNS = ["layer", "layer_order", "side", "units", "rank", "kept", "empty"]
PIXELS = ["layer", "layer_order", "row", "column", "kept"]
POINTS = 50
"""Points a curve, at most."""
SIDES = {"outputs": "kept_by_output", "inputs": "kept_by_input"}


def rows(details: Mapping[str, np.ndarray], totals: Mapping[str, int]) -> pd.DataFrame:
    """Return the kept share of the units of each layer, most connected first, at up to 50 ranks.

    Args:
        details: arrays of ``details.npz``.
        totals: number of weights by layer.
    """
    found = []
    for order, (layer, total) in enumerate(totals.items()):
        for side, prefix in SIDES.items():
            if (name := f"{prefix}/{layer}") not in details:
                continue
            counts = np.sort(details[name])[::-1]
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


def pixels(details: Mapping[str, np.ndarray], totals: Mapping[str, int]) -> pd.DataFrame:
    """Return the kept share by input pixel of a fully connected first layer on square images, in percent.

    Colour channels of a pixel are added. Empty for other networks.
    """
    layer = next(iter(totals), "")
    kept = details.get(f"kept_by_input/{layer}") if layer else None
    if kept is None:
        return pd.DataFrame(columns=PIXELS)
    for channels in (1, 3):
        side = math.isqrt(len(kept) // channels)
        if channels * side * side == len(kept) and side >= 4:
            share = 100 * kept.reshape(channels, side, side).sum(0) * side * side / totals[layer]
            found = [
                (layer, 0, row, column, round(float(v), 2)) for (row, column), v in np.ndenumerate(share)
            ]
            return pd.DataFrame(found, columns=PIXELS)
    return pd.DataFrame(columns=PIXELS)


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return the curves by layer and, for a fully connected network, the picture of its inputs."""
    found = []
    if len(frames["units"]):
        found.append(
            Figure(
                "units",
                "Connections kept, by neuron",
                "Units of a layer (neurons, or channels of convolutions) from most to least connected. "
                "A flat line: all lost alike; a step down to 0: some were cut off, a smaller layer would do.",
                _curves(),
                "units",
                panel="layer",
                columns=4,
                size=(190, 130),
                of_run=True,
            )
        )
    if len(frames["pixels"]):
        found.append(
            Figure(
                "pixels",
                "Connections kept, by input pixel",
                "Share of each pixel's connections to the first layer that is kept, as an image.",
                _picture(),
                "pixels",
                panel="layer",
                columns=1,
                size=(12, 12),
                cells=("column", "row"),
                of_run=True,
            )
        )
    return found


def _curves() -> alt.Chart:
    return (
        alt.Chart()
        .mark_line(strokeWidth=2, interpolate="step")
        .encode(
            percent("rank", "Units, most connected first", alt.X, domain=[0, 100]),
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


def _picture() -> alt.Chart:
    return (
        alt.Chart()
        .mark_rect()
        .encode(
            alt.X("column:O", axis=None),
            alt.Y("row:O", axis=None),
            alt.Color("kept:Q", title="Kept (%)", scale=alt.Scale(scheme="viridis", domainMin=0)),
            tooltip=tips(row="row", column="column", kept="connections kept (%)|.2f"),
        )
    )
