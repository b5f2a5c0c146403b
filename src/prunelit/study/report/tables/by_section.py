"""Further tables: published numbers, rounds, layers and classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from prunelit.study.report.order import amount_key, group_key, is_budget, is_dense, method_key
from prunelit.study.report.records.arrays import class_names
from prunelit.study.report.records.csv_files import read_rows
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.report.tables.literature import SOURCES
from prunelit.study.report.tables.statistics import summarise

MOST_CLASSES = 20
"""With more classes there is no table by class; ``details.npz`` has the numbers."""
TITLES = {
    "top1": "test accuracy, top 1, %",
    "top5": "test accuracy, top 5, %",
    "top1_max": "best test accuracy over epochs, top 1, %",
    "error_percent": "test error, %",
    "flops_millions": "FLOPs, sparse, millions",
    "density_percent": "kept share, %",
    "run_seconds": "seconds of the whole run",
    "destroyed_of_10": "networks of 10 that do not learn",
    "kept": "parameters kept by layer",
    "least_sparsity_percent": "least sparsity of the layers of this size, %",
    "greatest_sparsity_percent": "greatest sparsity of the layers of this size, %",
    "class_accuracy_percent": "test accuracy by class, %",
    "removed_fc1": "weights removed from fc1",
    "removed_fc2": "weights removed from fc2",
}
"""The titles of published metrics."""
COUNTS = ("kept", "removed_fc1", "removed_fc2", "destroyed_of_10", "run_seconds")
"""Published metrics that are shown with one decimal."""
MISSING = Cell("–", tone="dim")


def literature_grids(found: pd.DataFrame) -> list[Grid]:
    """Return a grid for each published table: our numbers, the published numbers, their difference, and
    doubts."""
    grids = []
    for (report, table, data, model, metric), rows in found.groupby(
        ["report", "table", "data", "model", "metric"], sort=False
    ):
        remarks: dict[str, str] = {}
        ordered = sorted(rows.to_dict("records"), key=lambda row: method_key(str(row["label"])))
        cells = [_literature_row(row, remarks) for row in ordered]
        name = f"table {table}" if len(str(table)) < 4 else str(table)
        grids.append(
            Grid(
                title=f"{data}, {model}: {TITLES[str(metric)]}, ours and {SOURCES[str(report)]}, {name}",
                header=["method", "setting", "seeds", "ours", "published", "difference"],
                rows=cells,
                notes=[f"{mark} {text}." for text, mark in remarks.items()],
                left=2,
                data=str(data),
                model=str(model),
                methods=[[str(row["label"])] for row in ordered],
            )
        )
    return grids


def count_text(mean: float) -> str:
    """Return the mean of whole numbers: without decimals if it is whole, otherwise with one."""
    return f"{mean:,.0f}" if mean == round(mean) else f"{mean:,.1f}"


def _literature_row(row: dict[str, object], remarks: dict[str, str]) -> list[Cell]:
    """Return a row; remarks get a letter in ``remarks``."""
    said = [f"Doubtful: {row['doubt']}"] if row["doubt"] else []
    said += [str(row["note"])] if row["note"] else []
    said += [f"Ours has {row['differs']}"] if row["differs"] else []
    marks = [remarks.setdefault(text, f"({_letter(len(remarks))})") for text in said]
    ours, sd, theirs = (float(str(row[key])) for key in ("ours", "sd", "theirs"))
    digits = 1 if row["metric"] in COUNTS else 2
    mean = count_text(ours) if row["metric"] in COUNTS else f"{ours:.2f}"
    shown = mean if math.isnan(sd) else f"{mean} ± {sd:.{digits}f}"
    published = "failed" if math.isnan(theirs) else f"{theirs:g}"
    return [
        *(Cell(str(row["label"])), Cell(str(row["setting"])), Cell(str(row["n"])), Cell(shown)),
        Cell(" ".join([published, *marks]), tone="bad" if row["doubt"] else ""),
        MISSING if math.isnan(theirs) else Cell(f"{ours - theirs:+.{digits}f}"),
    ]


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else str(number)


def round_grids(study: Study) -> list[Grid]:
    """Return, for methods that prune in several rounds of training, one row per round with means over
    seeds."""
    counts = study.rounds.groupby("run").size()
    several = study.complete[study.complete.index.isin(counts[counts > 1].index)]
    grids = []
    groups = several.groupby(["data", "model", "label", "asked"])
    for (data, model, label, asked), runs in sorted(groups, key=lambda group: group_key(group[0])):
        rounds = study.rounds.join(runs["seed"], on="run", how="inner")
        shown = [column for column in ROUND_COLUMNS if column in rounds and rounds[column].notna().any()]
        rows = []
        for number, of_runs in rounds.groupby("round"):
            group = of_runs.groupby("seed")[shown].mean()
            cells = [
                _mean_cell(group[column], 100 if "sparsity" in column else 1, "epoch" not in column)
                for column in shown
            ]
            rows.append([Cell(f"{number:g}"), Cell(str(len(group))), *cells])
        header = ["round", "seeds", *(ROUND_COLUMNS[column] for column in shown)]
        title = f"{data}, {model}: {label}, {asked}, round by round"
        grids.append(about_method(Grid(title, header, rows), data, model, label))
    return grids


ROUND_COLUMNS = {
    "sparsity_after": "sparsity, %",
    "epochs": "epochs\nafter it",
    "top1_before": "top 1\nbefore, %",
    "top1_after": "top 1\njust after, %",
    "last_top1": "top 1\nat the end, %",
    "best_top1": "top 1\nbest, %",
    "sparsity_trained": "sparsity\nat the end, %",
}


def threshold_grids(study: Study) -> list[Grid]:
    """Return the results of a list of thresholds: one row per threshold, means over seeds."""
    places = {str(run): folder for run, folder in study.complete["folder"].items()}
    names = study.complete[["data", "model", "label", "seed"]]
    tried = read_rows(places, "thresholds.csv", []).join(names, on="run")
    grids = []
    groups = tried.groupby(["data", "model", "label"])
    for (data, model, label), rows in sorted(groups, key=lambda group: group_key(group[0])):
        shown = [column for column in rows if column in THRESHOLD_COLUMNS or column.startswith("removed/")]
        cells = []
        for threshold, of_runs in sorted(rows.groupby("threshold"), reverse=True):
            group = of_runs.groupby("seed")[shown].mean()
            values = [
                _mean_cell(group[column], 100 if column == "sparsity" else 1, "removed" not in column)
                for column in shown
            ]
            cells.append([Cell(f"{threshold:g}"), Cell(str(len(group))), *values])
        header = [
            "threshold",
            "seeds",
            *(THRESHOLD_COLUMNS.get(name, name.replace("/", "\n")) for name in shown),
        ]
        grid = Grid(f"{data}, {model}: {label}, by threshold", header, cells)
        grids.append(about_method(grid, data, model, label))
    return grids


THRESHOLD_COLUMNS = {"sparsity": "sparsity, %", "top1": "top 1, %", "top5": "top 5, %"}


def layer_grids(study: Study) -> list[Grid]:
    """Return, for each method, what each layer keeps: one row per layer, one column per amount, means over
    seeds."""
    names = study.complete[["data", "model", "label", "asked", "density", "pruner", "seed"]]
    layers = study.layers.join(names.rename(columns={"density": "run_density"}), on="run", how="inner")
    grids = []
    groups = layers[~layers["label"].map(is_dense).astype(bool)].groupby(["data", "model", "label"])
    for (data, model, label), rows in sorted(groups, key=lambda group: group_key(group[0])):
        amounts = _amounts_in_order(rows)
        by_seed = rows.groupby(["layer", "asked", "seed"], sort=False)[["kept", "density"]].mean()
        means = by_seed.groupby(["layer", "asked"], sort=False).mean()
        cells = []
        for layer, (shape, total) in _layers_in_order(rows):
            values = [
                Cell(f"{kept:,.0f} ({100 * density:.4g} %)")
                if (kept := _at(means, layer, amount, "kept")) is not None
                and (density := _at(means, layer, amount, "density")) is not None
                else MISSING
                for amount in amounts
            ]
            cells.append([Cell(layer), Cell(shape), Cell(f"{total:,}"), *values])
        header = ["layer", "shape", "parameters", *map(str, amounts)]
        grid = Grid(f"{data}, {model}: {label}, parameters kept by layer", header, cells, left=2)
        grids.append(about_method(grid, data, model, label))
    return grids


def _amounts_in_order(rows: pd.DataFrame) -> list[str]:
    """Return the requested amounts by decreasing density of their runs; budgets come last, in their order."""
    density = rows.groupby("asked")["run_density"].mean()
    return sorted(
        map(str, density.index),
        key=lambda asked: (is_budget(asked), amount_key(asked) if is_budget(asked) else -density[asked]),
    )


def _layers_in_order(rows: pd.DataFrame) -> Iterable[tuple[str, tuple[str, int]]]:
    for layer, group in rows.groupby("layer", sort=False):
        yield str(layer), (str(group["shape"].iloc[0]), int(group["total"].iloc[0]))


def _at(table: pd.DataFrame, layer: str, amount: str, column: str) -> float | None:
    return float(table.at[(layer, amount), column]) if (layer, amount) in table.index else None


def class_grids(study: Study) -> list[Grid]:
    """Return the accuracy of each class, one row per method and amount: means over seeds that have the
    class."""
    found: dict[tuple[str, str, tuple[str, ...]], dict[tuple[str, str], dict[str, np.ndarray]]] = {}
    for run, row in study.complete.iterrows():
        details = study.details(str(run))
        names = class_names(details)
        if not names or "accuracy_by_class" not in details:
            continue
        accuracies = details["accuracy_by_class"]
        if (
            len(names) <= MOST_CLASSES
            and accuracies.shape == (len(names),)
            and accuracies.dtype.kind in "iuf"
        ):
            methods = found.setdefault((row["data"], row["model"], names), {})
            methods.setdefault((row["label"], row["asked"]), {})[str(run)] = accuracies
    return [
        Grid(
            title=f"{data}, {model}: test accuracy by class, %",
            header=["method", "asked", "seeds", *names],
            rows=[
                [Cell(label), Cell(asked), *_class_cells(methods[label, asked], study.runs["seed"])]
                for label, asked in _in_order(methods)
            ],
            left=2,
            data=data,
            model=model,
            methods=[[label] for label, _ in _in_order(methods)],
        )
        for (data, model, names), methods in sorted(found.items())
    ]


def _in_order(methods: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return methods and amounts in order."""
    return sorted(methods, key=lambda key: (method_key(key[0]), amount_key(key[1])))


def about_method(grid: Grid, data: str, model: str, label: str) -> Grid:
    """Return a table whose rows are all about one method."""
    return replace(grid, data=data, model=model, methods=[[label]] * len(grid.rows))


def _class_cells(runs: Mapping[str, np.ndarray], seeds: pd.Series) -> list[Cell]:
    """Return how many seeds there are, and the mean accuracies."""
    by_seed = pd.DataFrame.from_dict(runs, orient="index").groupby(seeds).mean()
    texts = ("n/a" if math.isnan(value) else f"{value:.1f}" for value in by_seed.mean())
    return [Cell(str(len(by_seed))), *map(Cell, texts)]


def _mean_cell(values: pd.Series, scale: float, deviation: bool) -> Cell:
    of = summarise(list(scale * values))
    if not of.n:
        return MISSING
    text = f"{of.mean:.2f}" if deviation else count_text(of.mean)
    return Cell(f"{text} ± {of.sd:.2f}" if deviation and of.n > 1 else text)
