"""The summary of a sweep: which runs are done, skipped or failed, and where the tracebacks are."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunelit.request import BadRequest
from prunelit.study.endings import NotStarted, RunFailed, Submitted
from prunelit.study.integrity import DamagedRun
from prunelit.study.lock import Busy, is_busy
from prunelit.study.record import Record
from prunelit.study.sweep.composer import Run

MOST_ROWS = 40
STATES = ("done", "skipped", "submitted", "failed", "elsewhere", "interrupted", "not started")


@dataclass(frozen=True)
class Row:
    """One run of the sweep: its state, and in one line why it is not complete."""

    folder: Path
    state: str
    note: str = ""


def row_of(run: Run, began: float, returned: Any = None) -> Row:
    """Return the state of a run, from its record and from the return value of its job, if any.

    ``began`` is the start time of the sweep; at the end a second command may have removed its folder.
    """
    if isinstance(returned, float) or (returned is None and _done_since(run, began)):
        return Row(run.folder, "done")
    if isinstance(returned, Submitted):
        return Row(run.folder, "submitted", returned.why)
    if isinstance(returned, Busy) or (returned is None and is_busy(run.folder)):
        return Row(run.folder, "elsewhere", "another process works on it")
    if isinstance(returned, NotStarted):
        state = "interrupted" if returned.why == "interrupted" else "not started"
        return Row(run.folder, state)
    if isinstance(returned, DamagedRun):
        return Row(run.folder, "failed", returned.why + " (rerun=true repeats the run)")
    if isinstance(returned, (RunFailed, BadRequest)):
        return Row(run.folder, "failed", _with_traceback(run.folder, str(returned)))
    status = _status(run.folder)
    if status.get("status") == "failed":
        return Row(run.folder, "failed", _with_traceback(run.folder, status.get("error", "")))
    if isinstance(returned, Exception):
        return Row(run.folder, "failed", f"{type(returned).__name__}: {returned}")
    if status.get("status") in ("running", "interrupted"):
        return Row(run.folder, "interrupted")
    return Row(run.folder, "not started")


def show(rows: Sequence[Row]) -> None:
    """Print the table: with colors and rules in a terminal, otherwise as plain lines."""
    counts = Counter(row.state for row in rows)
    headline = "sweep: " + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    told = [row for row in rows if row.state not in ("done", "skipped", "submitted")]
    if not sys.stdout.isatty():
        print(headline)
        for row in told:
            print(f"{row.state}: {row.folder}" + (f": {row.note}" if row.note else ""))
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    where = ", ".join(sorted({str(row.folder.parent) for row in rows}))
    table = Table(title=headline, caption=escape(f"in {where}"))
    for column in ("", "run", "note"):
        table.add_column(column, overflow="fold")
    done = [row for row in rows if row.state == "done"]
    for row in (*done[:MOST_ROWS], *told):
        note = row.note.replace(f"{row.folder}/", "") or _accuracy(row)
        table.add_row(row.state, escape(row.folder.name), escape(note))
    if len(done) > MOST_ROWS:
        table.add_row("done", f"... {len(done) - MOST_ROWS} more", "")
    if any(row.state == "interrupted" for row in rows):
        print()  # the progress bar of an interrupted run leaves the cursor at its end
    Console().print(table)


def _done_since(run: Run, began: float) -> bool:
    """Whether a run is complete; for a run to be repeated, since the start of the sweep."""
    result = run.folder / "result.json"  # the run has already checked its files
    return result.is_file() and (not run.rerun or result.stat().st_mtime >= began)


def _accuracy(row: Row) -> str:
    top1 = None
    with suppress(DamagedRun):
        top1 = Record(row.folder).result.get("top1") if row.state == "done" else None
    return "" if top1 is None else f"top1 {top1:.2f} %"


def _status(folder: Path) -> Mapping[str, str]:
    try:
        status: Mapping[str, str] = json.loads((folder / "status.json").read_text())
    except (OSError, ValueError):
        return {}
    return status


def _with_traceback(folder: Path, line: str) -> str:
    path = folder / "traceback.txt"
    return f"{line} ({path})" if path.is_file() else line
