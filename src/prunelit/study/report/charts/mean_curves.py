"""Means over seeds, connected by lines, with 95 % intervals and every run, over compression or FLOPs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from prunelit.study.report.charts.encodings import (
    RUN_TIPS,
    by_method,
    dense_line,
    layered,
    method_marks,
    percent,
    pruned,
    tips,
)
from prunelit.study.report.tables.statistics import t_quantile

FLOPS = "Sparse FLOPs (multiply-accumulates)"
LOG = alt.Scale(type="log", nice=False, padding=12)
SI = alt.Axis(format="~s", tickCount=5)
DODGE = 0.4
"""The share of the smallest distance between two amounts over which the methods are spread."""

MEANS = (
    "Marks are means over seeds, connected by lines. Bars are 95 % confidence intervals of the mean "
    "(Student's t) for two or more seeds, limited to 0 to 100. Small dots are single runs."
)
BESIDE = " Ticks mark the amounts that were run. The methods are drawn next to each other at each tick."


def flops_differ(runs: pd.DataFrame) -> bool:
    """Whether FLOPs are known and not proportional to the number of kept parameters on any network."""
    known = runs[(runs["flops_sparse"] > 0) & (runs["kept"] > 0)]
    ratio = (known["flops_sparse"] / known["kept"]).groupby(known["setting"]).agg(["min", "max"])
    return bool((ratio["max"] > 1.01 * ratio["min"]).any())


def amounts_run(runs: pd.DataFrame) -> list[float]:
    """Return the requested compressions of pruned runs, sorted, with three decimals."""
    asked = runs.loc[~runs["dense"], "asked_compression"].dropna().round(3)
    return [float(amount) for amount in np.unique(asked) if np.isfinite(amount)]


def _axis(x: str, amounts: Sequence[float]) -> alt.X:
    if x == "flops_sparse":
        return alt.X("at:Q", title=FLOPS, scale=LOG, axis=SI)
    axis = alt.Axis(
        values=amounts if amounts else alt.Undefined,
        labelExpr="[format(datum.value, '.3~f'), format(100 * pow(10, -datum.value), '.3~g') + ' %']",
        labelOverlap="greedy",
    )
    title = "Compression: log10(prunable / kept), and the share kept"
    return alt.X("at:Q", title=title, scale=alt.Scale(zero=False, nice=False, padding=12), axis=axis)


def mean_curves(table: pd.DataFrame, methods: Sequence[str], x: str, y: str, title: str) -> alt.LayerChart:
    """Return means connected by lines, their intervals, and single runs behind them."""
    amounts, names = amounts_run(table), pruned(methods)
    at = f"datum.{x}"
    if x == "compression" and len(names) > 1:
        step = DODGE * min(np.diff(amounts), default=1.0) / len(names)
        at += f" + {step:.6g} * (indexof({json.dumps(names)}, datum.method) - {(len(names) - 1) / 2})"
    runs = alt.Chart().transform_filter(f"!datum.dense && isValid(datum.{y}) && datum.{x} > 0")
    means = _means(runs, x, y, table["seed"].nunique()).transform_calculate(at=at)
    hover = tips(
        method="method",
        setting="network",
        asked="requested amount",
        **{y: f"{title.lower()}, mean (%)|.2f"},
        interval="95 % interval",
        seeds="seeds",
    )
    axis, height, encoded = _axis(x, amounts), percent(y, title), by_method(methods)
    dots = (
        runs.transform_calculate(at=at)
        .mark_circle(size=14, opacity=0.45)
        .encode(axis, height, encoded["color"], tooltip=tips(**RUN_TIPS))
    )
    bars = means.mark_rule(strokeWidth=1.5, opacity=0.7, clip=True).encode(
        axis, alt.Y("low:Q"), alt.Y2("high:Q"), encoded["color"], tooltip=hover
    )
    lines = means.mark_line(strokeWidth=1.5).encode(axis, height, **encoded)
    points = means.mark_point(size=50, filled=True, opacity=1).encode(
        axis, height, **method_marks(methods), tooltip=hover
    )
    return layered(*([dense_line()] if y == "top1" else []), dots, lines, bars, points)


def _means(runs: alt.Chart, x: str, y: str, most_seeds: int) -> alt.Chart:
    """Return means over seeds and their intervals for each method and amount."""
    factors = [float(f"{t_quantile(freedom):.6g}") for freedom in range(1, most_seeds)]
    half = f"{factors}[datum.seeds - 2] * datum.spread / sqrt(datum.seeds)"
    amount: list[Any] = ["setting", "method", "asked"]
    means: dict[str, Any] = {x: f"mean({x})", y: f"mean({y})"}
    return (
        # Runs with the same seed count once, with their mean, as in the tables.
        runs.transform_aggregate(groupby=[*amount, "seed"], **means)
        .transform_aggregate(groupby=amount, **means, spread=f"stdev({y})", seeds="count()")
        .transform_calculate(half=f"datum.seeds > 1 ? {half} : null")
        .transform_calculate(
            low=f"datum.half === null ? null : max(0, datum.{y} - datum.half)",
            high=f"datum.half === null ? null : min(100, datum.{y} + datum.half)",
            interval="datum.half === null ? 'one seed: none' : format(datum.low, '.2f') + ' to ' + "
            "format(datum.high, '.2f') + ' (± ' + format(datum.half, '.2f') + ')'",
        )
    )
