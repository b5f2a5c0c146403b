"""Published numbers and ours as tables, one for each table of a report, data set and metric."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pandas as pd

from prunelit.study.report.tables.by_section import TITLES
from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.reproduction.cells import RATIOS
from prunelit.study.reproduction.description import Report
from prunelit.study.reproduction.values import digits_of
from prunelit.study.reproduction.verdict import AGREES, DIFFERS, VERDICTS

NAMES = {
    **TITLES,
    "val_accuracy": "validation accuracy, a share",
    "sparsity": "sparsity, a share",
    "run_seconds": "time of the whole run: seconds published, ours as a multiple of the dense run's",
    "flops_millions": "FLOPs, sparse, millions, with an operation for each biased output",
    "density_percent": "kept share of weights and biases, %",
}
"""The title of each metric."""
MISSING = "–"
HEADER = ["method", "setting", "published", "ours", "95 % interval", "seeds", "scale", "device"]
TONES = {AGREES: "", DIFFERS: "bad"}


def grids(report: Report, cells: pd.DataFrame) -> list[Grid]:
    """Return the tables of a report, in the order of its description."""
    order = {name: place for place, name in enumerate(report.tables)}
    found = cells.assign(place=cells["table"].map(order)).sort_values("place", kind="stable")
    groups = found.groupby(["table", "data", "model", "metric"], sort=False)
    return [_grid(report, rows) for _, rows in groups]


def _grid(report: Report, rows: pd.DataFrame) -> Grid:
    table, data, model, metric = (str(rows[key].iloc[0]) for key in ("table", "data", "model", "metric"))
    letters: dict[str, str] = {}
    return Grid(
        title=f"{place_name(table)}: {report.tables[table].title} ({data}, {model}): {NAMES[metric]}",
        header=[*HEADER, "difference", "verdict"],
        rows=[_cells(row, letters) for row in rows.to_dict("records")],
        notes=[f"{mark} {_sentence(text)}" for text, mark in letters.items()],
        left=2,
        data=data,
        model=model,
    )


def place_name(table: str) -> str:
    """Return the name of a table within a sentence: ``table IV``, ``figure 6``, ``section 4.1``."""
    if "." in table:
        return f"section {table}"
    return table if " " in table or table == "text" else f"table {table}"


def _cells(row: Mapping[Any, Any], letters: dict[str, str]) -> list[Cell]:
    """Return the cells of one published number; remarks on it are added to ``letters``."""
    digits, n = digits_of(str(row["metric"])), int(row["n"])
    ours = f"{row['ours']:.{digits}f}" if n else MISSING
    interval = (
        MISSING if not n or math.isnan(row["low"]) else f"{row['low']:.{digits}f} to {row['high']:.{digits}f}"
    )
    gap = row["difference"]
    difference = MISSING if pd.isna(gap) or row["metric"] in RATIOS else f"{gap:+.{digits}f}"
    texts = [text for text in (row["why"], row["remark"]) if text]
    texts = [text for place, text in enumerate(texts) if text not in texts[:place]]
    marks = [letters.setdefault(str(text), f"({_letter(len(letters))})") for text in texts]
    scale = f"{row['scale']:g}" if n else MISSING
    return [
        *(Cell(str(row["method"])), Cell(str(row["setting"]))),
        *(Cell(str(row["value"]) or "failed"), Cell(ours, tone="" if n else "dim"), Cell(interval)),
        *(Cell(str(n)), Cell(scale), Cell(str(row["device"]) or MISSING), Cell(difference)),
        Cell(" ".join([str(row["verdict"]), *marks]), tone=TONES.get(str(row["verdict"]), "dim")),
    ]


def counts(cells: pd.DataFrame) -> str:
    """Return the number of published numbers with each verdict, as text."""
    of = cells["verdict"].value_counts()
    said = [f"{of[word]} {word}" for word in VERDICTS if word in of]
    return f"{len(cells)} published numbers: {', '.join(said)}"


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else str(number)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"
