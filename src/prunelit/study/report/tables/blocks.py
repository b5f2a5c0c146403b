"""The main table of a study: one row per method, one column per amount, one block per data set and model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunelit.study.report.order import amount_key, is_budget, sorted_methods
from prunelit.study.report.records.study import UNKNOWN, Study
from prunelit.study.report.tables.metrics import Metric
from prunelit.study.report.tables.statistics import Comparison, Summary, clear_winner, compare_all, summarise

TOLERANCE = 0.01
"""Relative deviation from the requested density above which the table reports it."""
OWN = "own"
"""Key of the column of runs whose method decides the density, such as by a threshold."""


@dataclass(frozen=True)
class Column:
    """Runs with the same requested density or budget.

    Attributes:
        key: the share as text; the request if it is a budget, such as ``flops 0.5``; ``own`` if the method
            decides (a threshold, a pattern N:M), which the names of methods distinguish.
        asked: the request, such as ``compression 0.5``.
        density: the requested share of kept parameters, NaN for budgets and ``own``.
    """

    key: str
    asked: str
    density: float


@dataclass(frozen=True)
class Entry:
    """The runs of one method in one column.

    Attributes:
        values: the metric by seed, of complete runs; runs with the same seed count once, with their mean.
        summary: over these seeds.
        counts: runs by status.
        density: the mean of the reached densities.
        collapsed: the number of complete runs with an empty layer.
        best: whether it is better than every other method beyond the noise.
    """

    values: dict[int, float]
    summary: Summary
    counts: dict[str, int]
    density: float
    collapsed: int
    best: bool = False


@dataclass(frozen=True)
class Block:
    """All methods on one data set and model, by one metric.

    Attributes:
        entries: by method (the run's label) and the column's key; without runs, there is no entry.
        comparisons: by the column's key, all pairs of methods; empty with one seed.
    """

    data: str
    model: str
    metric: Metric
    columns: Sequence[Column]
    methods: Sequence[str]
    entries: dict[tuple[str, str], Entry]
    comparisons: dict[str, list[Comparison]]


def blocks(study: Study, metric: Metric) -> list[Block]:
    """Return a block for each data set and model of a study, in the order of their names."""
    runs = study.runs[study.runs["pruner"] != UNKNOWN]
    runs = runs.assign(column=column_keys(runs))
    return [
        _block(str(data), str(model), metric, group)
        for (data, model), group in runs.groupby(["data", "model"], sort=True)
    ]


def column_keys(runs: pd.DataFrame) -> pd.Series:
    """Return the key of the column of each run: the requested density with four digits, or the budget.

    If the config is unknown, it is the reached density.
    """
    density = runs["asked_density"].where(runs["asked"] != "", runs["density"])
    keys = density.map(lambda value: OWN if math.isnan(value) else f"{value:.4g}").astype(str)
    return keys.where(~runs["asked"].map(is_budget).astype(bool), runs["asked"])


def _block(data: str, model: str, metric: Metric, runs: pd.DataFrame) -> Block:
    columns = _columns(runs)
    methods = sorted_methods(runs["label"])
    metric = metric.fitted(runs[metric.key].dropna())
    entries = _entries(metric, runs)
    comparisons = {}
    for column in columns:
        values = {m: entries[m, column.key].values for m in methods if (m, column.key) in entries}
        # Methods that decide the density differ in it, so their accuracies are not compared.
        pairs = [] if column.key == OWN else compare_all({m: v for m, v in values.items() if v})
        comparisons[column.key] = [
            pair.within(metric.greatest - metric.least) for pair in pairs if pair.n > 1
        ]
        best = _best(values, metric, comparisons[column.key])
        if best is not None:
            entry = entries[best, column.key]
            entries[best, column.key] = Entry(**{**entry.__dict__, "best": True})
    return Block(data, model, metric, columns, methods, entries, comparisons)


def _columns(runs: pd.DataFrame) -> list[Column]:
    """Return the columns: densities from high to low, then budgets in order, then what methods decide."""
    columns = []
    for key, group in runs.groupby("column"):
        asked = sorted({str(a) for a in group["asked"] if a} if key != OWN else {"by the method"})
        density = math.nan if key == OWN or is_budget(str(key)) else float(str(key))
        columns.append(Column(str(key), " / ".join(asked) or f"density {key}", density))
    return sorted(columns, key=_place)


def _place(column: Column) -> tuple[float, object]:
    """Return the sort key of a column."""
    return (math.inf if math.isnan(column.density) else -column.density), amount_key(column.key)


def _entries(metric: Metric, runs: pd.DataFrame) -> dict[tuple[str, str], Entry]:
    """Return the entries by method and column; vectorized for studies of many runs."""
    cell = ["label", "column"]
    complete = runs[runs["status"] == "complete"].assign(collapsed=runs["collapsed"].map(bool))
    values: dict[Any, dict[int, float]] = {}
    for (label, column, seed), value in complete.groupby([*cell, "seed"])[metric.key].mean().dropna().items():
        values.setdefault((label, column), {})[int(seed)] = float(value)
    counts: dict[Any, dict[str, int]] = {}
    for (label, column, status), n in runs.groupby([*cell, "status"]).size().items():
        counts.setdefault((label, column), {})[str(status)] = int(n)
    means = complete.groupby(cell)["density"].mean().to_dict()
    collapsed = complete.groupby(cell)["collapsed"].sum().to_dict()
    return {
        key: Entry(
            values=values.get(key, {}),
            summary=summarise(list(values.get(key, {}).values())).within(metric.least, metric.greatest),
            counts=counts[key],
            density=float(means.get(key, math.nan)),
            collapsed=int(collapsed.get(key, 0)),
        )
        for key in counts
    }


def _best(
    values: dict[str, dict[int, float]], metric: Metric, comparisons: Sequence[Comparison]
) -> str | None:
    """Return the method that is significantly better than each other method, or None."""
    means = {method: metric.better * summarise(list(v.values())).mean for method, v in values.items() if v}
    if metric.better == 0 or len(means) < 2:
        return None
    best = max(means, key=lambda method: means[method])
    compared = sum(best in (pair.a, pair.b) for pair in comparisons)
    clear = compared == len(means) - 1 and clear_winner(comparisons, best, metric.better)
    return best if clear else None
