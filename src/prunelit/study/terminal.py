"""What a person sees of a run: a bar while it trains, and a table or one line when it is complete."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prunelit.study.record import Row
from prunelit.study.sweep.progress import complete_line
from prunelit.study.sweep.state import Sweep

Bar = Literal["none", "goes", "stays"]
"""Whether there is a progress bar, and whether its last state stays on the screen."""

MOST_ROWS = 40


def bar_shown() -> Bar:
    """Return whether a run shows a progress bar: at a terminal, but for runs side by side, which would mix.

    In a sweep the bar makes place for the run's one line.
    """
    sweep = Sweep.current()
    if not sys.stdout.isatty() or (sweep is not None and sweep.jobs > 1):
        return "none"
    return "stays" if sweep is None else "goes"


def say_complete(folder: Path, result: Mapping[str, Any], layers: Sequence[Row]) -> None:
    """Say that a run is complete: in a table at a terminal, else in one line.

    In a sweep there is one line, which its leader prints if it has started the process of this run.
    """
    sweep = Sweep.current()
    if sweep is not None and sweep.pooled:
        return
    if sweep is None and sys.stdout.isatty():
        show_run(folder, result, layers)
    else:
        print(complete_line(folder), flush=True)


def show_run(folder: Path, result: Mapping[str, Any], layers: Sequence[Row]) -> None:
    """Print accuracy before and after, density and FLOPs by layer, and where the files are."""
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
    """Return what is said below the table."""
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
