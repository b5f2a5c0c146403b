"""The tidy tables from which the figures of a study are drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from prunelit.study.report.order import amount_key, is_dense, method_key, sorted_methods
from prunelit.study.report.records.study import Study

MOST_EPOCHS = 50
"""The maximum number of epochs of a run that are drawn, evenly spaced."""

OF_RUN = ["method", "setting", "setting_order", "method_panel", "method_panel_order", "asked", "seed", "name"]
"""Columns of a run that are repeated in its rows of other tables."""


@dataclass(frozen=True)
class StudyRows:
    """The records of all runs; ``run`` in each table is a row number of the table ``runs``."""

    study: Study

    @cached_property
    def runs(self) -> pd.DataFrame:
        """A row for each run."""
        return number_runs(self.study)

    @cached_property
    def epochs(self) -> pd.DataFrame:
        """A row for each epoch of each run."""
        return self._numbered(self.study.epochs)

    @cached_property
    def rounds(self) -> pd.DataFrame:
        """A row for each pruning of the runs that prune several times."""
        rounds = self._numbered(self.study.rounds)
        return rounds[rounds.groupby("run")["run"].transform("size") > 1]

    @cached_property
    def layers(self) -> pd.DataFrame:
        """A row for each layer of each run."""
        return self._numbered(self.study.layers)

    def _numbered(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(
            run=table["run"].map(dict(zip(self.study.runs.index, self.runs["run"], strict=True)))
        )


@dataclass(frozen=True)
class StudyTable:
    """A table of all runs of a study.

    Attributes:
        name: the name of the table.
        rows: returns its rows; the column ``run`` contains row numbers of the table ``runs``.
        digits: the number of significant digits. Numbers that are shown with fewer, or averaged, need more,
            so that they are not rounded twice.
    """

    name: str
    rows: Callable[[StudyRows], pd.DataFrame]
    digits: int = 6

    def of(self, rows: StudyRows) -> pd.DataFrame:
        """Return the table of a study."""
        return rounded(self.rows(rows), self.digits)


def methods_of(runs: pd.DataFrame) -> list[str]:
    """Return the methods of a study in order."""
    return sorted_methods(runs["method"])


def amounts_in_order(runs: pd.DataFrame) -> list[str]:
    """Return each requested amount once, from low to high compression; then budgets in their order."""
    first = runs.drop_duplicates("asked").set_index("asked")["asked_compression"].fillna(np.inf)
    return sorted(map(str, first.index), key=lambda asked: (first[asked], amount_key(asked)))


def joined(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return a table with the columns of its runs, as the page's script joins them."""
    if name == "runs":
        return tables["runs"]
    return tables[name].merge(tables["runs"][["run", *OF_RUN]], on="run", how="left")


def number_runs(study: Study) -> pd.DataFrame:
    """Return a row for each run of a study, numbered from 0."""
    runs = study.runs
    setting = runs["model"] + " on " + runs["data"]
    several = setting.nunique() > 1
    panel = runs["label"] + (": " + setting if several else "")
    table = pd.DataFrame(
        {
            "run": range(len(runs)),
            "name": runs.index,
            "method": runs["label"],
            "setting": setting,
            "method_panel": panel,
            "setting_order": setting.rank(method="dense").astype(int),
            "method_panel_order": _panel_order(setting, runs["label"]),
            "dense": runs["label"].map(is_dense).astype(bool),
            **{key: runs[key] for key in ("asked", "data", "model", "seed", "status", "compression", "kept")},
            "density": 100 * runs["density"],
            "on_path": 100 * runs["effective_density"] / runs["density"],
            **{key: runs[key] for key in ("asked_compression", "flops_sparse", "top1", "top1_before")},
            **{key: runs[key] for key in ("latency_dense_64", "latency_cut_64")},
            **{key: runs[key] for key in ("prune_seconds", "train_seconds", "test_seconds")},
        }
    )
    return table.reset_index(drop=True)


def _panel_order(setting: pd.Series[str], label: pd.Series[str]) -> list[int]:
    """Return the place of each run's network and method in the order of the study."""
    pairs = list(zip(setting, label, strict=True))
    order = sorted(set(pairs), key=lambda pair: (pair[0], method_key(pair[1])))
    places = {pair: place for place, pair in enumerate(order, 1)}
    return [places[pair] for pair in pairs]


def epoch_rows(rows: StudyRows) -> pd.DataFrame:
    """Return loss and accuracy after each epoch, of long trainings at 50 epochs evenly spaced."""
    kept = ["run", "epoch", "train_loss", "test_loss", "train_top1", "test_top1"]
    return rows.epochs[thinned(rows.epochs)].reindex(columns=kept)


def thinned(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return whether a row is one of at most 50 of its run, evenly spaced, the first and last among them."""
    place, length = rows.groupby("run").cumcount(), rows.groupby("run")["run"].transform("size")
    bucket = place * (MOST_EPOCHS - 1) // (length - 1).clip(lower=1)
    return (length <= MOST_EPOCHS) | ~pd.DataFrame({"run": rows["run"], "bucket": bucket}).duplicated()


def rounded(table: pd.DataFrame, digits: int) -> pd.DataFrame:
    """Return the table with at most this many significant digits; more would only make the page larger."""
    result = table.copy()
    for column in table.select_dtypes("float"):
        values = table[column].to_numpy(dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            places = digits - 1 - np.floor(np.log10(np.abs(values)))
            scale = 10.0 ** np.clip(np.where(np.isfinite(places), places, 0), -290, 290)
            result[column] = np.where(np.isfinite(values), np.round(values * scale) / scale, np.nan)
    return result


RUNS = StudyTable("runs", lambda rows: rows.runs, digits=12)
EPOCHS = StudyTable("epochs", epoch_rows)
