"""Accuracy, and what is left on a path, over what was removed: means, 95 % intervals, and every run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from prunelit.study.report.figures.figure import (
    RUN_TIPS,
    Figure,
    Frames,
    by_method,
    dense_line,
    layered,
    method_marks,
    percent,
    tips,
)
from prunelit.study.report.statistics import t_quantile

COMPRESSION = "Compression: log10(prunable / kept)"
FLOPS = "Sparse FLOPs (multiply-accumulates)"
LOG = alt.Scale(type="log", nice=False, padding=12)
SI = alt.Axis(format="~s", tickCount=5)
X = {
    "compression": alt.X(
        "compression:Q",
        title=COMPRESSION,
        scale=alt.Scale(zero=False, nice=False, padding=12),
        axis=alt.Axis(tickCount=6, format=".3~f"),
    ),
    "flops_sparse": alt.X("flops_sparse:Q", title=FLOPS, scale=LOG, axis=SI),
}


BAND = (
    "Lines join means over seeds; bands are 95 % confidence intervals of the mean (Student's t), cut at "
    "0 and 100 and drawn only from two seeds on. Small dots are single runs."
)


def figures(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return accuracy over compression and over FLOPs; nothing if no pruned run is complete."""
    runs = frames["runs"]
    if not (runs["top1"].notna() & ~runs["dense"]).any():
        return []
    caption = BAND + (" A dotted grey line is the mean of a dense network." if runs["dense"].any() else "")
    counted = "FLOPs are those of one forward pass of one input, each layer weighted by its kept share."
    return [
        Figure(
            "accuracy_by_compression",
            "Test accuracy against compression",
            caption,
            _curves(runs, methods, "compression", "top1", "Test accuracy"),
            "runs",
        ),
        Figure(
            "accuracy_by_flops",
            "Test accuracy against FLOPs",
            f"{caption} {counted}",
            _curves(runs, methods, "flops_sparse", "top1", "Test accuracy"),
            "runs",
        ),
    ]


def effective(frames: Frames, methods: Sequence[str]) -> list[Figure]:
    """Return effective density, as a share of density, over compression; nothing if it is not known."""
    runs = frames["runs"]
    if not (runs["on_path"].notna() & ~runs["dense"]).any():
        return []
    caption = (
        "Effective density as a share of density: at 100 % every kept parameter lies on a path from an input "
        f"to an output, at 0 % nothing gets through. {BAND}"
    )
    chart = _curves(runs, methods, "compression", "on_path", "Kept parameters on a path")
    return [Figure("effective_density", "Kept parameters that lie on a path", caption, chart, "runs")]


def _curves(table: pd.DataFrame, methods: Sequence[str], x: str, y: str, title: str) -> alt.LayerChart:
    """Return means joined by lines, their intervals, and single runs behind them."""
    dense = set(table.loc[table["dense"], "method"])  # the last methods, so that each keeps its colour
    methods = [method for method in methods if method not in dense]
    runs = alt.Chart().transform_filter(f"!datum.dense && isValid(datum.{y}) && datum.{x} > 0")
    means = _means(runs, x, y, table["seed"].nunique())
    hover = tips(
        method="method",
        setting="network",
        asked="asked for",
        **{y: f"{title.lower()}, mean (%)|.2f"},
        interval="95 % interval",
        seeds="seeds",
    )
    axis, height, colour = X[x], percent(y, title), by_method(methods)
    band = means.mark_area(opacity=0.15, clip=True).encode(
        axis, alt.Y("low:Q"), alt.Y2("high:Q"), colour["color"]
    )
    dots = runs.mark_circle(size=14, opacity=0.45).encode(
        axis, height, colour["color"], tooltip=tips(**RUN_TIPS)
    )
    lines = means.mark_line(strokeWidth=2).encode(axis, height, **colour)
    points = means.mark_point(size=55, filled=True, opacity=1).encode(
        axis, height, **method_marks(methods), tooltip=hover
    )
    layers = [band, dots, lines, points]
    return layered(*([dense_line()] if y == "top1" else []), *layers)


def _means(runs: alt.Chart, x: str, y: str, most_seeds: int) -> alt.Chart:
    """Return means over seeds and their intervals, of a method and amount."""
    factors = [float(f"{t_quantile(freedom):.6g}") for freedom in range(1, most_seeds)]
    half = f"{factors}[datum.seeds - 2] * datum.spread / sqrt(datum.seeds)"
    amount: list[Any] = ["setting", "method", "asked"]
    means: dict[str, Any] = {x: f"mean({x})", y: f"mean({y})"}
    return (
        # Runs that share a seed count once, by their mean, as in the tables.
        runs.transform_aggregate(groupby=[*amount, "seed"], **means)
        .transform_aggregate(groupby=amount, **means, spread=f"stdev({y})", seeds="count()")
        .transform_calculate(half=f"datum.seeds > 1 ? {half} : null")
        .transform_calculate(
            low=f"datum.half === null ? null : max(0, datum.{y} - datum.half)",
            high=f"datum.half === null ? null : min(100, datum.{y} + datum.half)",
            interval="datum.half === null ? 'one seed: none' : '± ' + format(datum.half, '.2f')",
        )
    )
