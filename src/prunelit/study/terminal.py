"""The output of a complete run: a table in a terminal, or one line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunelit.study.integrity import DamagedRun
from prunelit.study.record import Record, Row

MOST_ROWS = 40


def show_run(folder: Path, result: Mapping[str, Any], layers: Sequence[Row]) -> None:
    """Print the accuracy before and after pruning, density and FLOPs by layer, and the folder."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    title = f"{result['pruner']} on {result['model']}, {result['data']}, seed {result['seed']}"
    table = Table(title=escape(title))
    for column in ("layer", "shape", "kept", "of", "density", "FLOPs", "dense FLOPs"):
        table.add_column(column, justify="left" if column in ("layer", "shape") else "right")
    for row in layers[:MOST_ROWS]:
        table.add_row(
            *(escape(str(row["layer"])), str(row["shape"]), f"{row['kept']:,}", f"{row['total']:,}"),
            *(_percent(100 * row["density"]), _count(row["flops_sparse"]), _count(row["flops_dense"])),
        )
    if len(layers) > MOST_ROWS:
        table.add_row(f"... {len(layers) - MOST_ROWS} more in layers.csv")
    table.add_section()
    table.add_row(
        *("all prunable", "", f"{result['kept']:,}", f"{result['prunable']:,}"),
        *(_percent(100 * result["density"]), _count(result["flops_sparse"]), _count(result["flops_dense"])),
    )
    console.print(table)
    for line in _lines(folder, result):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _lines(folder: Path, result: Mapping[str, Any]) -> list[str]:
    """Return the lines below the table."""
    seconds = [result[f"{part}_seconds"] for part in ("prune", "train", "test")]
    lines = [
        f"test accuracy   {_percent(result['top1_before'])} before pruning, "
        f"{_percent(result['top1_after'])} just after, {_percent(result['top1'])} after "
        f"{result['epochs']} epochs (top 5: {_percent(result['top5'])})",
        f"seconds         {seconds[0]:.2f} pruning, {seconds[1]:.2f} training, {seconds[2]:.2f} testing",
    ]
    if result["effective_density"] is not None:
        lines.append(
            f"density         {_percent(100 * result['density'])}, "
            f"{_percent(100 * result['effective_density'])} on a path from input to output"
        )
    if result["collapsed"]:
        lines.append(f"collapsed       nothing is kept in {', '.join(result['collapsed'])}")
    lines.append(f"files           {folder}")
    if (folder / "tensorboard").is_dir():
        lines.append(f"curves          tensorboard --logdir {folder.parent.parent}")
    return lines


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} %"


def _count(value: float | None) -> str:
    if value is None:
        return "-"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.1f} {unit}"
    return f"{value:.0f}"


def complete_line(folder: Path) -> str:
    """Return the line on a run that has just been completed."""
    try:
        result = Record(folder).result
        return f"complete: {folder} top1={result['top1']:.2f} density={result['density']:.4f}"
    except (DamagedRun, TypeError, ValueError):
        return f"complete: {folder}"
