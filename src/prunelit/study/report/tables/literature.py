"""Comparison of runs with published numbers: both numbers, their difference, and doubts about a number.

``published.csv`` has one row per published number. Its ``setting`` states the amount and, if it matters, the
layer, class or threshold of the number; ``doubt`` states why the number, or its label in the report, cannot
be correct; ``note`` is a remark. Numbers are those of single runs unless the metric states otherwise.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from prunelit.study.report.order import is_dense
from prunelit.study.report.records.arrays import class_names
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.experiments import differing_settings
from prunelit.study.report.tables.statistics import summarise

SOURCES = {
    "butler2022": "B. Butler, Network Pruning - Extended, Princeton University, 2022",
    "shi2022": "C. Shi, CNN Pruning Comparisons, University of Massachusetts Amherst, 2022",
    "evani": "B. Evani, Mini Project Pruning, Carnegie Mellon University",
    "mikler2019": "S. Mikler and E. Płaszczyk, ICLR Reproducibility Challenge: SNIP, 2019",
    "khanal2018": "A. Khanal, Examining the Effects of Pruning on a Convolution Neural Network, 2018",
}
"""The reports that ``report`` in published.csv names."""

COLUMNS = (
    *("report", "table", "data", "model", "method", "setting", "metric"),
    *("label", "n", "ours", "sd", "theirs", "difference", "doubt", "note", "differs"),
)

Setting = Mapping[str, str]
Value = Callable[[Study, str, Setting], float]

DESTROYED = 85.0
"""Below this best accuracy in percent the report by Mikler counts a network as destroyed."""
CLASSES = {"plane": "airplane", "car": "automobile"}
"""Names of classes in published.csv that data sets call otherwise."""


def against_literature(study: Study) -> pd.DataFrame:
    """Return a row for each published number and method of the study that match.

    They match in data set, model, method and amount. ``ours`` is the mean over ``n`` seeds, ``sd`` its
    standard deviation, ``theirs`` the published value (NaN: the published run failed), ``differs`` what
    our runs were configured otherwise than the published ones.
    """
    complete, rows = study.complete, []
    config = cache(lambda run: study.config(run))
    for fact in published().to_dict("records"):
        runs = complete[(complete["data"] == fact["data"]) & (complete["model"] == fact["model"])]
        if runs.empty or fact["metric"] not in VALUES:
            continue
        setting = parse_setting(fact["setting"])
        for label, group in matching_runs(study, runs, fact["method"], setting).groupby("label"):
            values = [VALUES[fact["metric"]](study, str(run), setting) for run in group.index]
            by_seed = pd.Series(values, group.index).groupby(group["seed"]).mean().dropna()
            if by_seed.empty:
                continue
            ours = summarise(list(by_seed))
            found = {"label": label, "n": ours.n, "ours": ours.mean, "sd": ours.sd, "theirs": fact["value"]}
            place = (fact["report"], fact["data"], fact["model"])
            differs = differing_settings(*place, config(str(group.index[0])))
            rows.append({**fact, **found, "difference": ours.mean - fact["value"], "differs": differs})
    return pd.DataFrame(rows, columns=list(COLUMNS))


@cache
def published_texts() -> pd.DataFrame:
    """Return published.csv as printed: all values are texts, those that are not there empty."""
    return pd.read_csv(Path(__file__).with_name("published.csv"), dtype=str, keep_default_na=False)


@cache
def published() -> pd.DataFrame:
    """Return published.csv; ``value`` is a number, empty texts are empty."""
    table = published_texts()
    return table.assign(value=pd.to_numeric(table["value"], errors="coerce"))


def parse_setting(text: str) -> dict[str, str]:
    """Return ``{"sparsity": "0.5", "layer": "full 1"}`` for ``sparsity=0.5 layer=full 1``."""
    return dict(re.findall(r"(\w+)=(.*?)(?= \w+=|$)", text))


def matching_runs(study: Study, runs: pd.DataFrame, method: str, setting: Setting) -> pd.DataFrame:
    """Return the runs of a published method with the published amount."""
    if method == "dense":
        return runs[runs["label"].map(is_dense).astype(bool)]
    if "threshold" in setting:
        runs = runs[runs["pruner"].isin([method, f"karnin_{method}"])]
        tried = [not _threshold_row(study, str(run), setting).empty for run in runs.index]
        return runs[np.array(tried, dtype=bool)]
    if "compression" in setting:
        density = 10.0 ** -float(setting["compression"])
    elif setting:
        density = 1 - float(setting.get("sparsity") or setting.get("target") or "nan")
    else:
        density = 0.1  # Not stated; the experiment in conf/ takes compression 1.
    asked = runs["asked_density"].where(runs["asked"] != "", runs["density"])
    tolerance = np.where(runs["asked"] != "", 1e-4, 5e-3)
    return runs[(runs["pruner"] == method) & ((asked - density).abs() <= tolerance * density)]


def _column(name: str, scale: float = 1.0) -> Value:
    return lambda study, run, setting: float(study.runs.at[run, name]) * scale


def _best_top1(study: Study, run: str, setting: Setting) -> float:
    """Return the best accuracy, of the round that reached the published sparsity if it names one."""
    if "sparsity_percent" not in setting:
        return float(study.runs.at[run, "best_top1"])
    rounds = study.rounds_of(run)
    reached = (100 * rounds.get("sparsity_after", pd.Series(dtype=float))).round(2)
    near = rounds[(reached - float(setting["sparsity_percent"])).abs() < 0.06]
    return float(near["best_top1"].iloc[0]) if len(near) else math.nan


def _error(study: Study, run: str, setting: Setting) -> float:
    return 100.0 - _best_top1(study, run, setting)


def _destroyed(study: Study, run: str, setting: Setting) -> float:
    """Return how many of 10 networks like this one are destroyed: 10 or 0; NaN if it was not trained."""
    best = _best_top1(study, run, setting)
    return math.nan if math.isnan(best) else 10.0 * (best < DESTROYED)


def _kept(study: Study, run: str, setting: Setting) -> float:
    layers = study.layers_of(run)
    same = layers[layers["total"] == float(setting["params"])]
    return float(same["kept"].iloc[0]) if len(same) == 1 else math.nan


def _sparsity_of_layers(end: Callable[[pd.Series], float]) -> Value:
    """Return the least or greatest sparsity in percent of the layers of the published size."""

    def value(study: Study, run: str, setting: Setting) -> float:
        layers = study.layers_of(run)
        same = layers[layers["total"] == float(setting["params"])]
        return float(100 * (1 - end(same["density"]))) if len(same) else math.nan

    return value


def _class_accuracy(study: Study, run: str, setting: Setting) -> float:
    details = study.details(run)
    names = class_names(details)
    if "accuracy_by_class" not in details:
        return math.nan
    wanted = CLASSES.get(setting["class"], setting["class"])
    first = _threshold_row(study, run, setting).index == 0 if "threshold" in setting else [True]
    if wanted not in names or not all(first):
        return math.nan
    accuracies = np.ravel(details["accuracy_by_class"])
    return float(accuracies[names.index(wanted)]) if len(accuracies) == len(names) else math.nan


def _top1(study: Study, run: str, setting: Setting) -> float:
    if "threshold" in setting:
        return _of_threshold(study, run, setting, "top1")
    return float(study.runs.at[run, "top1"])


def _removed(layer: str) -> Value:
    return lambda study, run, setting: _of_threshold(study, run, setting, f"removed/{layer}.weight")


def _threshold_row(study: Study, run: str, setting: Setting) -> pd.DataFrame:
    table = study.thresholds(run)
    wanted = float(setting["threshold"])
    return table[(table["threshold"] - wanted).abs() < 1e-9] if "threshold" in table else table.iloc[:0]


def _of_threshold(study: Study, run: str, setting: Setting, column: str) -> float:
    row = _threshold_row(study, run, setting)
    return float(row[column].iloc[0]) if len(row) and column in row else math.nan


VALUES: dict[str, Value] = {
    "top1": _top1,
    "top5": _column("top5"),
    "top1_max": _best_top1,
    "error_percent": _error,
    "flops_millions": _column("flops_sparse", 1e-6),
    "density_percent": _column("density", 100.0),
    "run_seconds": _column("seconds"),
    "destroyed_of_10": _destroyed,
    "kept": _kept,
    "least_sparsity_percent": _sparsity_of_layers(lambda densities: densities.max()),
    "greatest_sparsity_percent": _sparsity_of_layers(lambda densities: densities.min()),
    "class_accuracy_percent": _class_accuracy,
    "removed_fc1": _removed("fc1"),
    "removed_fc2": _removed("fc2"),
}
"""Our number for each published metric."""
