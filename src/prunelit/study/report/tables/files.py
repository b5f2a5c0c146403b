"""The files of a report: the same records give the same bytes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import pandas as pd

from prunelit.durable import write_atomically
from prunelit.study.report.plain_text import plain
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.grid import Grid, markdown
from prunelit.study.report.tables.latex import document
from prunelit.study.report.tables.report_tables import Tables


def write_report(study: Study, tables: Tables, out: Path) -> list[Path]:
    """Write ``results.csv``, the parquet files and the tables to ``out``; return their paths.

    Each file is replaced as a whole; other files are not changed.
    """
    out.mkdir(parents=True, exist_ok=True)
    results, layers = tidy(study), _with_names(study)
    contents: dict[str, str | bytes] = {
        "results.csv": _csv(results),
        "results.parquet": _parquet(results),
        "layers.parquet": _parquet(layers),
        "comparisons.csv": _csv(comparisons(tables)),
        **({} if tables.literature is None else {"literature.csv": _csv(tables.literature)}),
        "tables.md": _markdown(sections(tables)),
        "tables.tex": document(sections(tables)),
    }
    for name, content in contents.items():
        write_atomically(out / name, content)
    return [out / name for name in contents]


def tidy(study: Study) -> pd.DataFrame:
    """Return one row per run with plain values: lists and objects become text."""
    table = study.runs.reset_index().drop(columns="folder")
    table["collapsed"] = [";".join(names) for names in table["collapsed"]]
    table["versions"] = [
        json.dumps(value, sort_keys=True) if isinstance(value, dict) else None for value in table["versions"]
    ]
    for column in table.columns:
        if not pd.api.types.is_numeric_dtype(table[column]):
            table[column] = table[column].map(plain, na_action="ignore").astype("string")
    for column in WHOLE:
        table[column] = table[column].round().astype("Int64")
    return table


WHOLE = (
    *("seed", "prunable", "kept", "epochs", "rounds", "peak_memory_bytes"),
    *("flops_dense", "epochs_asked", "pre_epochs_asked", "rounds_asked"),
)
"""Columns that are counts."""


def comparisons(tables: Tables) -> pd.DataFrame:
    """Return one row for each pair of methods that were compared."""
    rows = [
        (
            *(block.data, block.model, block.metric.key, column.asked, pair.a, pair.b, pair.n),
            *(pair.difference, pair.low, pair.high, pair.p, pair.p_holm),
        )
        for block in tables.blocks
        for column in block.columns
        for pair in block.comparisons[column.key]
    ]
    names = ("data", "model", "metric", "asked", "a", "b", "seeds", "difference")
    return pd.DataFrame(rows, columns=[*names, "low", "high", "p", "p_holm"])


def _with_names(study: Study) -> pd.DataFrame:
    """Return the rows of all layers with columns that identify their runs."""
    names = ["data", "model", "label", "seed", "asked", "status"]
    return study.layers.join(study.runs[names], on="run").reset_index(drop=True)


def _csv(table: pd.DataFrame) -> str:
    return str(table.to_csv(index=False, lineterminator="\n"))


def _parquet(table: pd.DataFrame) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    # Without pandas' own notes, which name its version.
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(), buffer)
    return buffer.getvalue()


def sections(tables: Tables) -> dict[str, list[Grid]]:
    """Return all tables by the title of their section, in order; sections without tables are left out."""
    found = {
        "What went wrong": [tables.problems] if tables.problems else [],
        "Results": tables.results,
        **tables.by_section,
    }
    return {title: grids for title, grids in found.items() if grids}


def _markdown(sections: dict[str, list[Grid]]) -> str:
    parts = ["# Results\n"]
    for title, grids in sections.items():
        # The heading is directly above and is not repeated.
        shown = (replace(grid, title="") if grid.title == title else grid for grid in grids)
        parts += [f"## {title}\n", *map(markdown, shown)]
    return "\n".join(parts)
