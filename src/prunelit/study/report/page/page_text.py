"""The texts of the page: a summary of the study, problems, and how to repeat each run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prunelit.study.bounded import read_bytes
from prunelit.study.report.records.labels import flatten, value_text
from prunelit.study.report.records.study import STATES, Study
from prunelit.study.report.tables.report_tables import Tables

MOST_TRACEBACKS = 50
LONGEST = 8000
"""Maximum length of a traceback; of a longer one, the end is shown."""


@dataclass(frozen=True)
class Problem:
    """A problem with a run; ``run`` is its number, None for a file that could not be read."""

    what: str
    name: str
    why: str
    run: int | None = None
    traceback: str = ""


@dataclass(frozen=True)
class Listed:
    """A run in the list: its config where it differs from other runs, and its command."""

    number: int
    name: str
    text: str
    command: str
    own: list[tuple[str, str]]


def title(study: Study) -> str:
    """Return the title: networks and data sets, or their numbers."""
    pairs = study.runs[["model", "data"]].drop_duplicates()
    if len(pairs) == 1:
        return f"Pruning {pairs['model'].iloc[0]} on {pairs['data'].iloc[0]}"
    return f"Pruning {_counted(pairs['model'], 'model')} on {_counted(pairs['data'], 'data set')}"


def summary(study: Study) -> str:
    """Return a one-line summary of the study with its number of runs."""
    runs = study.runs
    counts = runs["status"].value_counts()
    said = ", ".join(f"{counts[state]} {state}" for state in STATES if state in counts)
    parts = [
        f"{len(runs)} run{'' if len(runs) == 1 else 's'} ({said})",
        _counted(runs["label"], "method"),
        _listed(runs["model"], "model"),
        _listed(runs["data"], "data set"),
        _counted(runs["seed"].dropna(), "seed"),
    ]
    return "; ".join(parts) + "."


def _counted(values: pd.Series[Any], noun: str) -> str:
    number = values.nunique()
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _listed(values: pd.Series[str], noun: str) -> str:
    names = sorted(values.unique())
    return f"{_counted(values, noun)} ({', '.join(names)})" if len(names) <= 6 else _counted(values, noun)


def problems(study: Study, tables: Tables) -> list[Problem]:
    """Return the rows of the table of problems, with the number of each run and its traceback."""
    rows = [[cell.text for cell in row] for row in tables.problems.rows] if tables.problems else []
    # Unusable arrays are only found when figures are drawn, after the tables.
    told = {why for _, _, why in rows}
    rows += [["skipped", line.partition(": ")[0], line] for line in study.skipped if line not in told]
    numbers = {str(run): number for number, run in enumerate(study.runs.index)}
    found: list[Problem] = []
    for what, name, why in rows:
        known = name in numbers and what != "skipped"
        failed = what == "failed" and known and len(found) < MOST_TRACEBACKS
        traceback = _traceback(study.folder(name)) if failed else ""
        found.append(Problem(what, name, why, numbers[name] if known else None, traceback))
    return found


def _traceback(folder: Path) -> str:
    try:
        text = read_bytes(folder / "traceback.txt").decode(errors="replace")
    except (OSError, ValueError):
        return ""
    return text if len(text) <= LONGEST else f"…{text[-LONGEST:]}"


def run_list(study: Study) -> tuple[list[tuple[str, str]], list[Listed]]:
    """Return the common part of the configs of all runs, and each run with the rest of its config."""
    configs = {run: flatten(config) for run, config in study.configs.items()}
    known = [config for config in configs.values() if config]
    shared = {
        key: value
        for key, value in (known[0] if known else {}).items()
        if all(key in config and config[key] == value for config in known)
    }
    listed = []
    for number, (run, row) in enumerate(study.runs.iterrows()):
        own = [
            (key, value_text(value)) for key, value in configs.get(str(run), {}).items() if key not in shared
        ]
        listed.append(Listed(number, str(run), _outcome(row), study.command(str(run)), own))
    return [(key, value_text(value)) for key, value in shared.items()], listed


def _outcome(row: pd.Series[Any]) -> str:
    seed = "" if pd.isna(row["seed"]) else f", seed {row['seed']}"
    accuracy = f", {row['top1']:.2f} % accuracy" if pd.notna(row["top1"]) else ""
    return f"{row['label']}, {row['asked']}, {row['model']} on {row['data']}{seed}: {row['status']}{accuracy}"
