"""The table of latencies: the dense, the masked and the cut network side by side."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from prunelit.study.report.order import group_key
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.report.tables.metrics import Metric

FORMS = {"dense": "dense", "masked": "masked", "cut": "cut", "half": "half precision", "2to4": "2:4 products"}
"""The forms of a network whose latency is measured, as columns name them."""
SIZES = {1: "1 input", 64: "64 inputs"}
"""The batches that are timed."""
COLUMNS = {
    f"latency_{form}_{n}": f"{word}\n{size}" for n, size in SIZES.items() for form, word in FORMS.items()
}
"""Columns of ``Study.runs``, and their heads in the table."""
MILLISECONDS = Metric("", "milliseconds", -1, digits=None)


def latency_grids(study: Study) -> list[Grid]:
    """Return a grid for each data set, network, device and number of threads of which a latency is known.

    Rows are methods with their amounts, and numbers are means over seeds. Columns without a number are left
    out.
    """
    runs = study.complete
    timed = runs[runs[list(COLUMNS)].notna().any(axis=1)]
    places = ["data", "model", "device", "threads"]
    grids = []
    for (data, model, device, threads), found in timed.groupby(places, dropna=False):
        shown = [column for column in COLUMNS if found[column].notna().any()]
        groups = sorted(found.groupby(["data", "model", "label", "asked"]), key=lambda g: group_key(g[0]))
        rows = [[Cell(str(names[2])), Cell(str(names[3])), *_cells(group, shown)] for names, group in groups]
        with_threads = "" if pd.isna(threads) else f", {threads:g} thread{'' if threads == 1 else 's'}"
        grids.append(
            Grid(
                title=f"{data}, {model}: median milliseconds of a forward pass on {device}{with_threads}",
                header=["method", "asked", "seeds", *(COLUMNS[column] for column in shown)],
                rows=rows,
                notes=["Dense: without a zero. Masked: with its zeros. Cut: without the emptied units."],
                left=2,
                data=str(data),
                model=str(model),
                methods=[[row[0].text] for row in rows],
            )
        )
    return grids


def _cells(group: pd.DataFrame, shown: list[str]) -> list[Cell]:
    means: Mapping[str, float] = group.groupby("seed")[shown].mean().mean()
    known = [Cell("–", tone="dim") if pd.isna(means[c]) else Cell(MILLISECONDS.show(means[c])) for c in shown]
    return [Cell(str(group["seed"].nunique())), *known]
