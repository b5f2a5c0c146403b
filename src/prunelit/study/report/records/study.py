"""A study: the records of many runs as tables, read from files only."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from prunelit.request import BadRequest
from prunelit.study.bounded import LONGEST_NAME, check_plain, read_text
from prunelit.study.process import is_gone
from prunelit.study.record import RESULT_FIELDS
from prunelit.study.report.order import PRUNED_BEFORE
from prunelit.study.report.plain_text import plain
from prunelit.study.report.records.arrays import Arrays
from prunelit.study.report.records.csv_files import read_rows
from prunelit.study.report.records.interpolations import resolved
from prunelit.study.report.records.labels import labels
from prunelit.study.report.records.requested_amount import OF_CHECKPOINT, both_amounts, requested_amount
from prunelit.study.report.records.run_files import (
    NUMBER_FIELDS,
    Files,
    Unreadable,
    find_runs,
    first_line,
    load_yaml,
    read_config,
    read_run,
    why_stopped,
)

STATES = ("complete", "running", "failed", "incomplete")
UNKNOWN = "?"
"""Pruner, model and data of a run that is not complete and has no config."""


@dataclass(frozen=True)
class Study:
    """The runs of a study.

    Attributes:
        runs: one row per run, complete or not. The index ``run`` is the path of the folder relative to the
            requested one. Columns: the keys of ``result.json`` (shares 0 to 1, accuracies in percent; NaN or
            None where not known), and ``status``: complete, running, failed, or incomplete (its process no
            longer exists); ``error``: why it failed or stopped, one line, or None; ``folder``: the run's
            folder, a Path; ``label``: the method's name, see
            :func:`~prunelit.study.report.records.labels.labels`; ``asked``: the requested amount, such as
            ``compression 0.5``, ``sparsity 0.9``, ``dense``, ``threshold 0.45``, ``2:4``, or an empty text if
            not known; ``asked_density``: the kept share that this means, NaN if the method decides;
            ``asked_compression``, ``asked_sparsity``: the requested amount as a number that equals the given
            value; ``seconds``: the seconds for pruning, training and testing; ``epochs_asked``,
            ``pre_epochs_asked``, ``rounds_asked``: by the config.
        epochs: ``metrics.csv`` of all runs, column ``run`` first.
        rounds: ``rounds.csv`` likewise.
        layers: ``layers.csv`` likewise.
        skipped: a line that names each file that could not be read.
        configs: the config of each run as Hydra wrote it, interpolations as they stand; empty if not known.
    """

    runs: pd.DataFrame
    epochs: pd.DataFrame
    rounds: pd.DataFrame
    layers: pd.DataFrame
    skipped: list[str]
    configs: Mapping[str, Mapping[str, Any]]

    @property
    def complete(self) -> pd.DataFrame:
        """The complete runs."""
        return self.runs[self.runs["status"] == "complete"]

    def folder(self, run: str) -> Path:
        """Return the folder of a run."""
        return Path(self.runs.at[run, "folder"])

    def config(self, run: str) -> dict[str, Any]:
        """Return the config of a run, interpolations resolved where they can be; empty if not known."""
        return resolved(read_config(self.folder(run)))

    def command(self, run: str) -> str:
        """Return the command line that repeats a run; empty if not known."""
        hydra = self.folder(run) / ".hydra"
        try:
            overrides = load_yaml(hydra / "overrides.yaml")
            added = _config_dirs(hydra / "hydra.yaml")
            arguments = [f"--config-dir={path}" for path in added] + [str(item) for item in overrides or []]
        except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
            return ""
        return shlex.join(["python", "-m", "prunelit.train", *arguments])

    def details(self, run: str) -> Mapping[str, np.ndarray]:
        """Return the arrays of ``details.npz``, each read when it is asked for; empty if there are none."""
        return Arrays(self.folder(run) / "details.npz")

    def thresholds(self, run: str) -> pd.DataFrame:
        """Return ``thresholds.csv`` of a run with a list of thresholds, otherwise an empty table."""
        return read_rows({run: self.folder(run)}, "thresholds.csv", [])

    def rounds_of(self, run: str) -> pd.DataFrame:
        """Return the rows of ``rounds`` of one run."""
        return self.rounds[self.rounds["run"] == run]

    def layers_of(self, run: str) -> pd.DataFrame:
        """Return the rows of ``layers`` of one run."""
        return self.layers[self.layers["run"] == run]

    def weights(self, run: str) -> Mapping[str, np.ndarray]:
        """Return the final weights by parameter name; empty if NumPy does not support them."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        path = self.folder(run) / "weights.safetensors"
        try:
            check_plain(path)
            arrays: dict[str, np.ndarray] = load_file(path)
        except (OSError, ValueError, TypeError, SafetensorError):
            return {}
        return arrays


def read_study(folders: Sequence[Path]) -> Study:
    """Read the records in ``folders``.

    Files that are truncated or of another version are skipped, with a line in ``skipped``.

    Raises:
        BadRequest: a folder is missing.
    """
    for folder in folders:
        if not folder.is_dir():
            raise BadRequest("DIR", folder, "a folder with runs", "there is no such folder")
    skipped: list[str] = []
    found: dict[str, Files] = {}
    for name, folder in _named(folders):
        try:
            found[_unused(name, found)] = read_run(folder)
        except Unreadable as error:
            text = str(error)
            skipped.append(text if text.startswith(str(folder)) else f"{folder / 'result.json'}: {text}")
    places = {name: files.folder for name, files in found.items()}
    epochs, rounds, layers = (
        read_rows(places, name, skipped) for name in ("metrics.csv", "rounds.csv", "layers.csv")
    )
    configs = {name: files.config for name, files in found.items()}
    return Study(_runs(found), epochs, rounds, layers, skipped, configs)


def _config_dirs(path: Path) -> list[str]:
    """Return the folders that a run was given by ``--config-dir``, from its ``hydra.yaml``."""
    if "command-line" not in read_text(path):  # the usual case: parsing takes twenty times as long
        return []
    sources = load_yaml(path)["hydra"]["runtime"]["config_sources"]
    return [source["path"] for source in sources if source["provider"] == "command-line"]


def _named(folders: Sequence[Path]) -> list[tuple[str, Path]]:
    """Return each run once, with its path relative to the requested folder, or to the common parent."""
    tops = [folder.absolute() for folder in folders]
    top = Path(os.path.commonpath(tops)) if tops else Path()
    runs: dict[Path, Path] = {}
    for folder in folders:
        for run in find_runs(folder):
            runs.setdefault(run.resolve(), run)
    names = [(os.path.relpath(run.absolute(), top), run) for run in runs.values()]
    return sorted((run.absolute().name if name == "." else name, run) for name, run in names)


def _unused(name: str, names: Mapping[str, Files]) -> str:
    """Return the name of a run as valid text; names that only differ in invalid bytes stay distinct."""
    text = os.fsencode(name).decode("utf-8", "replace")
    while text in names:
        text += "'"
    return text


def _runs(found: Mapping[str, Files]) -> pd.DataFrame:
    rows = [_row(files) for files in found.values()]
    asked = [(_method(row), str(row["data"]), str(row["model"])) for row in rows]
    names = labels(asked, [files.config for files in found.values()])
    for row, label in zip(rows, names, strict=True):
        row["label"] = label
    table = pd.DataFrame(rows, index=pd.Index(list(found), name="run", dtype=str), columns=COLUMNS)
    numbers = (*NUMBER_FIELDS, *ASKED)
    table[list(numbers)] = table[list(numbers)].apply(pd.to_numeric).astype(float)
    table["seconds"] = table[["prune_seconds", "train_seconds", "test_seconds"]].sum(axis=1, skipna=False)
    table["seed"] = table["seed"].astype("Int64")
    table["error"] = pd.Series([row["error"] for row in rows], table.index, dtype=object)
    return table


ASKED = (*("asked_density", "epochs_asked", "pre_epochs_asked", "rounds_asked"),)
"""Numbers requested by the config."""
COLUMNS = (
    *RESULT_FIELDS,
    *("status", "error", "folder", "label", "asked"),
    *ASKED,
)


def _row(files: Files) -> dict[str, Any]:
    """Return what is known of one run."""
    config, state = files.config, files.state
    status = str(state.get("status"))
    if files.result is not None:
        status = "complete"
    elif status not in ("running", "failed") or (status == "running" and is_gone(state)):
        status = "incomplete"
    asked, density = requested_amount(config, files.result or {})
    named = {group: _at(config, group, "name") for group in ("pruner", "model", "data")}
    return {
        **{key: UNKNOWN if name is None else plain(str(name)[:LONGEST_NAME]) for key, name in named.items()},
        "seed": _number(config.get("seed")),
        **(files.result or {}),
        "collapsed": (files.result or {}).get("collapsed") or [],
        "status": status,
        "error": _why(status, state),
        "folder": files.folder,
        "asked": asked,
        "asked_density": density,
        **both_amounts(density, files.result or {}),
        "epochs_asked": _number(config.get("epochs")),
        "pre_epochs_asked": _number(config.get("pre_epochs")),
        "rounds_asked": _number(_at(config, "pruner", "rounds")),
    }


def _method(row: Mapping[str, Any]) -> str:
    """Return the name that the methods of a run's pruner begin with."""
    return PRUNED_BEFORE if row["asked"] == OF_CHECKPOINT else str(row["pruner"])


def _why(status: str, state: Mapping[str, Any]) -> str | None:
    """Return why a run is neither complete nor running."""
    if status == "incomplete":
        return why_stopped(state)
    return first_line(state.get("error", "")) if status == "failed" else None


def _at(config: Mapping[str, Any], group: str, key: str) -> Any:
    node = config.get(group)
    return node.get(key) if isinstance(node, Mapping) else None


def _number(value: Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None
