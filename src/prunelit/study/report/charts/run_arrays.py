"""The tables of figures that show one run, made from its arrays, and the runs that have them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from prunelit.study.report.charts.tables import rounded
from prunelit.study.report.records.run_files import first_line
from prunelit.study.report.records.study import Study

MOST_RUNS = 48
"""The maximum number of runs with detailed figures in the page."""

DIGITS = 6
"""Significant digits of the figures of a run."""

UNFIT = (ArithmeticError, AttributeError, IndexError, KeyError, OSError, TypeError, ValueError)
"""Errors caused by arrays of another shape or type than this version writes."""


@dataclass(frozen=True)
class RunArrays:
    """The arrays of one run.

    Attributes:
        details: arrays of ``details.npz``, by name.
        totals: number of weights by prunable layer, in the order of the network.
        weights: final weights by layer, 0 where pruned.
    """

    details: Mapping[str, np.ndarray] = field(default_factory=dict)
    totals: Mapping[str, int] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def layers_with_weights(self) -> list[str]:
        """Return the prunable layers whose final weights are known, in the order of the network."""
        return [layer for layer in self.totals if layer in self.weights]

    @classmethod
    def of(cls, study: Study, run: str) -> RunArrays:
        """Read the arrays of a run."""
        table = study.layers[study.layers["run"] == run]
        totals = dict(zip(table["layer"], table["total"].astype(int), strict=True)) if len(table) else {}
        return cls(study.details(run), totals, study.weights(run))


@dataclass(frozen=True)
class RunTable:
    """A table of one run: its name, and the function that computes its rows from the run's arrays."""

    name: str
    rows: Callable[[RunArrays], pd.DataFrame]


def shown_in_detail(runs: pd.DataFrame) -> list[int]:
    """Return the runs with detailed figures: the first seed of each method and amount, 48 at most.

    Each network has as many as another, if it has runs enough, and in each every method has one before any
    has a second, the dense network last.
    """
    complete = runs[runs["status"] == "complete"].sort_values(["setting", "method", "compression", "seed"])
    first = complete.drop_duplicates(["setting", "method", "asked"])
    turn = first.groupby(["setting", "method"]).cumcount()
    first = first.assign(turn=turn).sort_values(["turn", "dense", "run"])
    place = first.groupby("setting").cumcount()
    return sorted(first.assign(place=place).sort_values(["place", "run"])["run"].head(MOST_RUNS).tolist())


def first_shown(runs: pd.DataFrame) -> list[int]:
    """Return the runs whose details are shown first: one per network and method, at a density of about a
    tenth."""
    held = runs[runs["run"].isin(shown_in_detail(runs))]
    distance = (held["compression"] - 1).abs()
    order = held.assign(distance=distance).sort_values(["dense", "distance", "setting_order", "run"])
    return order.drop_duplicates(["setting", "method"])["run"].tolist()


def tables_of_runs(
    study: Study, tables: Sequence[RunTable], numbers: Sequence[int]
) -> dict[str, pd.DataFrame]:
    """Return the tables of some runs, given by their numbers, and report unusable arrays in
    ``study.skipped``."""
    found: dict[str, list[pd.DataFrame]] = {table.name: [] for table in tables}
    for number in numbers:
        run = str(study.runs.index[number])
        arrays = RunArrays.of(study, run)
        for table in tables:
            try:
                found[table.name].append(table.rows(arrays).assign(run=number))
            except UNFIT as error:
                why = f"no picture of {table.name}, arrays do not fit ({first_line(error)})"
                study.skipped.append(f"{study.folder(run)}: {why}")
    return {name: rounded(_joined_up(parts), DIGITS) for name, parts in found.items()}


def _joined_up(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Concatenate tables without empty ones, whose untyped columns would turn numbers into text."""
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return parts[0] if parts else pd.DataFrame({"run": []})
