"""The small tidy tables that the figures of a study are drawn from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from prunelit.study.report.figures import confusion, kernels, units, weights
from prunelit.study.report.order import method_key, sorted_methods
from prunelit.study.report.records.run_files import first_line
from prunelit.study.report.records.study import Study

MOST_RUNS = 48
"""Runs of which the page holds detailed pictures."""
MOST_EPOCHS = 50
"""Epochs of a run that are drawn, spread evenly; iterative runs keep the first after each pruning as well."""

UNFIT = (ArithmeticError, AttributeError, IndexError, KeyError, OSError, TypeError, ValueError)
"""What arrays of another shape or type than this version writes can raise."""

OF_RUN = ["method", "setting", "setting_order", "method_panel", "method_panel_order", "asked", "seed", "name"]
"""Columns of a run that each of its rows in other tables has too."""


def tidy(study: Study) -> dict[str, pd.DataFrame]:
    """Return the tables by name; ``run`` in each is a row number of the table ``runs``."""
    runs = _runs(study)
    numbers = dict(zip(study.runs.index, runs["run"], strict=True))
    epochs, rounds, layers = (
        table.assign(run=table["run"].map(numbers)) for table in (study.epochs, study.rounds, study.layers)
    )
    rounds = rounds[rounds.groupby("run")["run"].transform("size") > 1]
    return {
        "runs": runs,
        "epochs": _epochs(epochs),
        "round_epochs": _round_epochs(epochs, rounds),
        "rounds": _rounds(rounds),
        "layers": _layers(layers, runs),
        **_details(study, shown_in_detail(runs)),
    }


def methods_of(runs: pd.DataFrame) -> list[str]:
    """Return the methods of a study in order."""
    return sorted_methods(runs["method"])


def shown_in_detail(runs: pd.DataFrame) -> list[int]:
    """Return the runs with detailed pictures: the first seed of each method and amount, 48 at most.

    Every network and method has one before any has a second.
    """
    complete = runs[runs["status"] == "complete"].sort_values(["setting", "method", "compression", "seed"])
    first = complete.drop_duplicates(["setting", "method", "asked"])
    turn = first.groupby(["setting", "method"]).cumcount()
    return sorted(first.assign(turn=turn).sort_values(["turn", "run"])["run"].head(MOST_RUNS).tolist())


def first_shown(runs: pd.DataFrame) -> list[int]:
    """Return the runs whose details are shown first: one a network and method, at about a tenth kept."""
    held = runs[runs["run"].isin(shown_in_detail(runs))]
    distance = (held["compression"] - 1).abs()
    order = held.assign(distance=distance).sort_values(["dense", "distance", "setting_order", "run"])
    return order.drop_duplicates(["setting", "method"])["run"].tolist()


def joined(tables: Mapping[str, pd.DataFrame], name: str) -> pd.DataFrame:
    """Return a table with the columns of its runs, as the page's script joins them."""
    if name == "runs":
        return tables["runs"]
    return tables[name].merge(tables["runs"][["run", *OF_RUN]], on="run", how="left")


def _runs(study: Study) -> pd.DataFrame:
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
            "dense": runs["pruner"] == "none",
            **{key: runs[key] for key in ("asked", "data", "model", "seed", "status", "compression", "kept")},
            "density": 100 * runs["density"],
            "on_path": 100 * runs["effective_density"] / runs["density"],
            **{key: runs[key] for key in ("asked_compression", "flops_sparse", "top1", "top1_before")},
            **{key: runs[key] for key in ("prune_seconds", "train_seconds", "test_seconds")},
        }
    )
    return _rounded(table.reset_index(drop=True), digits=12)


def _panel_order(setting: pd.Series[str], label: pd.Series[str]) -> list[int]:
    """Return the place of each run's network and method among those of the study."""
    pairs = list(zip(setting, label, strict=True))
    order = sorted(set(pairs), key=lambda pair: (pair[0], method_key(pair[1])))
    places = {pair: place for place, pair in enumerate(order, 1)}
    return [places[pair] for pair in pairs]


def _epochs(epochs: pd.DataFrame) -> pd.DataFrame:
    kept = ["run", "epoch", "train_loss", "test_loss", "train_top1", "test_top1"]
    return _rounded(epochs[_thinned(epochs)].reindex(columns=kept))


def _thinned(rows: pd.DataFrame) -> pd.Series[bool]:
    """Return whether a row is one of at most 50 of its run, spread evenly, the first and last among them."""
    place, length = rows.groupby("run").cumcount(), rows.groupby("run")["run"].transform("size")
    bucket = place * (MOST_EPOCHS - 1) // (length - 1).clip(lower=1)
    return (length <= MOST_EPOCHS) | ~pd.DataFrame({"run": rows["run"], "bucket": bucket}).duplicated()


def _round_epochs(epochs: pd.DataFrame, rounds: pd.DataFrame) -> pd.DataFrame:
    """Return the epochs of iterative runs, and which of them come first after a pruning."""
    iterative = epochs[epochs["run"].isin(rounds["run"].unique())]
    if iterative.empty:
        return pd.DataFrame(columns=["run", "epoch", "test_top1", "sparsity", "pruned"])
    pruned = pd.MultiIndex.from_frame(iterative[["run", "epoch"]]).isin(
        pd.MultiIndex.from_frame(rounds[["run", "epoch"]])
    )
    table = iterative.assign(pruned=pruned, sparsity=100 * (1 - iterative["density"]))
    table = table[_thinned(iterative) | pruned]
    return _rounded(table.reindex(columns=["run", "epoch", "test_top1", "sparsity", "pruned"]))


def _rounds(rounds: pd.DataFrame) -> pd.DataFrame:
    columns = ["run", "round", "sparsity", "top1_before", "top1_after", "last_top1"]
    if rounds.empty:
        return pd.DataFrame(columns=columns)
    return _rounded(rounds.assign(sparsity=100 * rounds["sparsity_after"]).reindex(columns=columns))


def _layers(layers: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    columns = ["run", "layer", "layer_order", "density", "kept", "total"]
    if layers.empty:
        return pd.DataFrame(columns=columns)
    layers = layers[~layers["run"].isin(runs.loc[runs["dense"], "run"])]
    order = layers.groupby("run").cumcount()
    return _rounded(layers.assign(layer_order=order, density=100 * layers["density"])[columns])


def _details(study: Study, chosen: list[int]) -> dict[str, pd.DataFrame]:
    """Return the tables of the detailed pictures of some runs."""
    makers: dict[str, Callable[..., pd.DataFrame]] = {
        "weights": weights.rows,
        "units": units.rows,
        "pixels": units.pixels,
        "kernels": kernels.rows,
        "places": kernels.places,
        "confusion": confusion.rows,
        "classes": confusion.classes,
    }
    found: dict[str, list[pd.DataFrame]] = {name: [] for name in makers}
    for number in chosen:
        run = str(study.runs.index[number])
        arguments = _arguments(study, run)
        for name, rows in makers.items():
            try:
                found[name].append(rows(*arguments[name]).assign(run=number))
            except UNFIT as error:
                line = f"{study.folder(run)}: no picture of {name}, arrays do not fit ({first_line(error)})"
                study.skipped.append(line)
    return {name: _rounded(_joined_up(parts)) for name, parts in found.items()}


def _joined_up(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Return tables as one; empty ones, whose columns have no types, would make numbers texts."""
    filled = [part for part in parts if len(part)]
    if filled:
        return pd.concat(filled, ignore_index=True)
    return parts[0] if parts else pd.DataFrame({"run": []})


def _arguments(study: Study, run: str) -> dict[str, tuple[Any, ...]]:
    """Return what each maker of a detailed picture is given."""
    table = study.layers[study.layers["run"] == run]
    totals = dict(zip(table["layer"], table["total"].astype(int), strict=True)) if len(table) else {}
    details = study.details(run)
    parameters = study.weights(run)
    held = [layer for layer in totals if layer in parameters]
    return {
        "weights": (details, list(totals)),
        "units": (details, totals),
        "pixels": (details, totals),
        "kernels": (parameters, held),
        "places": (parameters, held),
        "confusion": (details,),
        "classes": (details,),
    }


def _rounded(table: pd.DataFrame, digits: int = 6) -> pd.DataFrame:
    """Return the table with so few significant digits: more are not seen, and make the page larger.

    What is shown with fewer digits, or averaged, has more here, so that it is not rounded twice.
    """
    rounded = table.copy()
    for column in table.select_dtypes("float"):
        values = table[column].to_numpy(dtype=float)
        with np.errstate(divide="ignore", invalid="ignore"):
            places = digits - 1 - np.floor(np.log10(np.abs(values)))
            scale = 10.0 ** np.clip(np.where(np.isfinite(places), places, 0), -290, 290)
            rounded[column] = np.where(np.isfinite(values), np.round(values * scale) / scale, np.nan)
    return rounded
