"""Compute our number for a published one, if it is not simply a column of the record."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.literature import VALUES, Setting, Value


def value_of(study: Study, run: str, metric: str, setting: Setting) -> float:
    """Return our number of a run, NaN if the run does not have it."""
    return {**VALUES, **COUNTED_AS_PUBLISHED}[metric](study, run, setting)


def _flops_with_biases(study: Study, run: str, setting: Setting) -> float:
    """Return FLOPs in millions, plus one operation per output with a bias, as in the report by Butler."""
    layers = study.layers_of(run)
    outputs = sum(flops / math.prod(shape[1:]) for shape, flops in _weights(layers))
    return (float(study.runs.at[run, "flops_sparse"]) + outputs) / 1e6


def _density_with_biases(study: Study, run: str, setting: Setting) -> float:
    """Return the kept share of weights and biases in percent; biases are not pruned and count as kept."""
    row = study.runs.loc[run]
    biases = sum(shape[0] for shape, _ in _weights(study.layers_of(run)))
    return float(100 * (row["kept"] + biases) / (row["prunable"] + biases))


def _weights(layers: pd.DataFrame) -> list[tuple[list[int], float]]:
    """Return shape and dense FLOPs of each weight tensor of a network whose layers all have biases."""
    shapes = [[int(size) for size in str(shape).split("x")] for shape in layers["shape"]]
    pairs = zip(shapes, layers["flops_dense"].astype(float), strict=True)
    return [(shape, flops) for shape, flops in pairs if len(shape) > 1]


def _times_dense(study: Study, run: str, setting: Setting) -> float:
    """Return the duration of a run divided by the duration of the dense run with its seed and device."""
    row, runs = study.runs.loc[run], study.complete
    same = (runs["data"] == row["data"]) & (runs["model"] == row["model"]) & (runs["device"] == row["device"])
    dense = runs[same & (runs["pruner"] == "none") & (runs["seed"] == row["seed"])]["seconds"]
    return float(row["seconds"] / dense.iloc[0]) if len(dense) else math.nan


def _accuracy(study: Study, run: str, setting: Setting) -> float:
    return float(study.runs.at[run, "top1"]) / 100


def _sparsity(study: Study, run: str, setting: Setting) -> float:
    return float(study.runs.at[run, "sparsity"])


COUNTED_AS_PUBLISHED: Mapping[str, Value] = {
    "flops_millions": _flops_with_biases,
    "density_percent": _density_with_biases,
    "run_seconds": _times_dense,
    "val_accuracy": _accuracy,
    "sparsity": _sparsity,
}
"""Metrics that are computed here as in the published report, and not read from the record."""

DIGITS = {"flops_millions": 2, "val_accuracy": 4, "sparsity": 4, "run_seconds": 2}
"""Decimals of our numbers, if they differ from :func:`digits_of`."""
WHOLE = ("kept", "removed_fc1", "removed_fc2", "destroyed_of_10")
"""Metrics that are counts, shown with one decimal."""


def digits_of(metric: str) -> int:
    """Return the number of decimals with which our number is shown."""
    return 1 if metric in WHOLE else DIGITS.get(metric, 2)
