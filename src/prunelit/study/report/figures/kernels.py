"""Kernels of a run as pictures: the first layer's weights, and where in the kernel connections remain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.figures.figure import Figure, Frames, layered, tips

COLUMNS = ["layer", "layer_order", "kernel", "row", "column", "x", "y", "weight"]
PLACES = ["layer", "layer_order", "row", "column", "kept"]
MOST = 64
"""Kernels of the first layer that are shown."""
ACROSS = 16


def rows(weights: Mapping[str, np.ndarray], layers: Sequence[str]) -> pd.DataFrame:
    """Return a row a pixel of the first convolution's kernels, laid out side by side; 0 is pruned.

    Rows without a weight make the gaps between kernels.
    """
    first = next((layer for layer in layers if weights[layer].ndim == 4), None)
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


def places(weights: Mapping[str, np.ndarray], layers: Sequence[str]) -> pd.DataFrame:
    """Return a row a layer and place in its kernels: the percentage of kernels that keep it."""
    found = []
    for order, layer in enumerate(layers):
        if weights[layer].ndim == 4 and max(weights[layer].shape[2:]) > 1:
            kept = 100 * (weights[layer] != 0).mean(axis=(0, 1))
            found += [
                (layer, order, row, column, round(float(v), 3)) for (row, column), v in np.ndenumerate(kept)
            ]
    return pd.DataFrame(found, columns=PLACES)


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return both pictures; nothing where no run has convolutions."""
    if frames["kernels"].empty:
        return []
    return [
        Figure(
            "kernels",
            "Kernels of the first layer",
            f"Final weights, kernel by kernel (the first {MOST} at most): blue is negative, orange positive, "
            "and a dot marks what was pruned.",
            _pictures(),
            "kernels",
            panel="layer",
            columns=1,
            size=(14, 14),
            cells=("x", "y"),
            of_run=True,
        ),
        Figure(
            "kernel_places",
            "Connections kept, by place in the kernel",
            "Share of each layer's kernels that keep the weight at this place. Each layer has colours of its "
            "own range: hover for the figures.",
            _heat_maps(),
            "places",
            panel="layer",
            columns=6,
            size=(18, 18),
            cells=("column", "row"),
            of_run=True,
            own=("x", "y", "color"),
        ),
    ]


def _pictures() -> alt.LayerChart:
    base = alt.Chart()
    x, y = alt.X("x:O", axis=None, sort="ascending"), alt.Y("y:O", axis=None, sort="ascending")
    hover = tips(kernel="kernel", row="row", column="column", weight="weight|.3g")
    colour = alt.Color(
        "weight:Q",
        title="Weight",
        scale=alt.Scale(scheme="blueorange", domainMid=0),
        legend=alt.Legend(format="~g", gradientLength=180),
    )
    cells = base.transform_filter("isValid(datum.weight)").mark_rect().encode(x, y, colour, tooltip=hover)
    gaps = base.mark_rect(opacity=0).encode(x, y)
    pruned = base.transform_filter("datum.weight == 0").mark_circle(size=5, color="gray", opacity=1)
    return layered(gaps, cells, pruned.encode(x, y, tooltip=hover))


def _heat_maps() -> alt.Chart:
    return (
        alt.Chart()
        .mark_rect()
        .encode(
            alt.X("column:O", axis=None),
            alt.Y("row:O", axis=None),
            alt.Color("kept:Q", scale=alt.Scale(scheme="viridis"), legend=None),
            tooltip=tips(layer="layer", row="row", column="column", kept="kernels that keep it (%)|.2f"),
        )
    )
