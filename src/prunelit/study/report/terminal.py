"""What a report prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from prunelit.study.report.records.study import STATES, Study
from prunelit.study.report.tables.grid import Grid, for_terminal
from prunelit.study.report.tables.report_tables import PUBLISHED, Tables

MOST_PROBLEMS = 20
PIPE_WIDTH = 1000
"""Columns where standard output is no terminal: tables are not folded there."""


def console() -> Console:
    """Return a console for standard output."""
    found = Console(highlight=False)
    return found if found.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def show_study(study: Study, tables: Tables) -> None:
    """Print how many runs there are, what went wrong, and the results."""
    screen = console()
    counts = study.runs["status"].value_counts()
    said = [f"{counts[status]} {status}" for status in STATES if status in counts]
    screen.print(f"{len(study.runs)} run{'' if len(study.runs) == 1 else 's'}: {', '.join(said)}")
    if tables.problems is not None:
        screen.print(for_terminal(_shortened(tables.problems), screen.is_terminal))
    for grid in [*tables.results, *tables.by_section.get(PUBLISHED, [])]:
        screen.print(for_terminal(grid, screen.is_terminal))


def show_written(files: Sequence[Path]) -> None:
    """Print where the files are."""
    top = files[0].parent
    pictures = sum(path.parent != top for path in files)
    names = sorted(path.name for path in files if path.parent == top)
    more = f", and {pictures} pictures in {top / 'figures'}" if pictures else ""
    console().print(f"written to {top}: {', '.join(names)}{more}", soft_wrap=True, markup=False)


def _shortened(grid: Grid) -> Grid:
    rest = len(grid.rows) - MOST_PROBLEMS
    if rest <= 0:
        return grid
    return Grid(grid.title, grid.header, grid.rows[:MOST_PROBLEMS], [f"{rest} more in tables.md"], grid.left)
