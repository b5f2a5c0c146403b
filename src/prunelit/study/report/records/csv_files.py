"""The csv files of many runs as one table, parsed at once; damaged files are skipped and reported."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from prunelit.study import bounded
from prunelit.study.integrity import damaged_files
from prunelit.study.report.records.run_files import first_line

NEEDED = {
    "metrics.csv": ("epoch",),
    "rounds.csv": ("round", "sparsity_after"),
    "layers.csv": ("layer", "shape", "total", "kept", "density"),
    "thresholds.csv": ("threshold",),
}
"""The required columns of each file, without missing values."""
TEXT = ("layer", "shape", "phase")
"""Columns that are text even if they look like numbers, such as the shape ``100``."""

MOST_ROWS = 50_000
"""Maximum number of rows of a file: epochs, prunings or layers of one run."""
LONGEST_CELL = 1000
"""Maximum length of a cell, such as the name of a layer."""

Body = tuple[str, Path, str]


def read_rows(runs: Mapping[str, Path], name: str, skipped: list[str]) -> pd.DataFrame:
    """Return the csv file ``name`` of all runs as one table, column ``run`` first.

    A file that is truncated, foreign or of another version is skipped and added to ``skipped``. Files with
    the same header are parsed together.
    """
    bodies: dict[str, list[Body]] = {}
    for run, folder in runs.items():
        try:
            text = bounded.read_text(folder / name)
            check(text, NEEDED[name])
            if problems := damaged_files(folder, digests=True, only=(name,)):
                raise ValueError(problems[0].removeprefix(f"{name} "))
        except FileNotFoundError:
            continue
        except (OSError, ValueError, csv.Error) as error:
            skipped.append(f"{folder / name}: {first_line(error)}")
            continue
        header, _, body = text.partition("\n")
        if body:
            bodies.setdefault(header, []).append((run, folder / name, body))
    tables = [table for header, files in bodies.items() for table in _parse(header, files, name, skipped)]
    if not tables:
        return pd.DataFrame({"run": pd.Series(dtype=str)})
    table = pd.concat(tables, ignore_index=True)
    order = {run: number for number, run in enumerate(runs)}
    return table.sort_values("run", key=lambda column: column.map(order), kind="stable", ignore_index=True)


def check(text: str, needed: Sequence[str]) -> None:
    """Raise ValueError unless ``text`` is a whole csv file with the columns ``needed``, or has no rows."""
    if not text.endswith("\n"):
        raise ValueError("truncated" if text else "empty")
    rows = list(csv.reader(io.StringIO(text)))
    if len(rows) < 2:
        return
    if len(rows) > MOST_ROWS:
        raise ValueError(f"more than {MOST_ROWS:,} rows")
    if missing := [column for column in needed if column not in rows[0]]:
        raise ValueError(f"no column {missing[0]}")
    if any(len(cell) > LONGEST_CELL for row in rows for cell in row):
        raise ValueError(f"a cell of more than {LONGEST_CELL} characters")
    if len({len(row) for row in rows}) > 1 or "run" in rows[0] or len(set(rows[0])) < len(rows[0]):
        raise ValueError("not the rows of a run")


def _parse(header: str, files: Sequence[Body], name: str, skipped: list[str]) -> Iterable[pd.DataFrame]:
    """Yield the rows of files with one header; all at once if possible, otherwise one by one."""
    counts = [sum(1 for _ in csv.reader(io.StringIO(body))) for _, _, body in files]
    try:
        table = _read_csv(header, "".join(body for _, _, body in files), NEEDED[name])
        if len(table) != sum(counts):
            raise ValueError("not the rows of a run")
    except ValueError as error:
        if len(files) == 1:
            skipped.append(f"{files[0][1]}: {first_line(error)}")
            return
        for file in files:
            yield from _parse(header, [file], name, skipped)
        return
    runs = [run for (run, _, _), count in zip(files, counts, strict=True) for _ in range(count)]
    table.insert(0, "run", runs)
    yield table


def _read_csv(header: str, body: str, needed: Sequence[str]) -> pd.DataFrame:
    table = pd.read_csv(
        io.StringIO(f"{header}\n{body}"),
        dtype={column: str for column in TEXT if column in header},
        keep_default_na=False,
        na_values=["", "nan"],  # a loss that overflowed is not text
    )
    for column in table.columns:
        if column not in TEXT and not pd.api.types.is_numeric_dtype(table[column]):
            raise ValueError(f"column {column} holds text")
        if column in needed and table[column].isna().any():
            raise ValueError(f"column {column} has gaps")
    return table
