"""The steps of ``python -m prunelit.reproduce``: run, compare, write."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from prunelit.request import MISSING, BadRequest
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.grid import for_terminal
from prunelit.study.report.terminal import console
from prunelit.study.reproduction.answers import answers
from prunelit.study.reproduction.cells import compare, read_sweeps
from prunelit.study.reproduction.description import Report, Sweep
from prunelit.study.reproduction.document import Outcome, write_document
from prunelit.study.reproduction.page import note_request, write_outcome
from prunelit.study.reproduction.requests import Command, Request
from prunelit.study.reproduction.tables import counts, grids


def say_commands(wanted: Sequence[Command]) -> None:
    """Print the command of each sweep, and how many of its runs are complete."""
    for command in wanted:
        runs, left = len(command.runs), len(command.left)
        print(f"# {command.sweep.name}: {command.sweep.what} {runs - left} of {runs} runs are complete.")
        print(command.text)


def run_commands(report: Report, request: Request, wanted: Sequence[Command]) -> int:
    """Run the training program for each command with runs that are not complete; return the exit status.

    A failed run does not keep the next sweep from running. A wrong request and a signal end everything.
    """
    note_request(report, request, wanted)
    worst = 0
    for number, command in enumerate(wanted, 1):
        left = len(command.left)
        if not left:
            print(f"complete already: {command.sweep.name}, {len(command.runs)} runs", flush=True)
            continue
        print(
            f"sweep {number} of {len(wanted)}: {command.sweep.name}, {left} of {len(command.runs)} runs left"
        )
        print(command.text, flush=True)
        status = _train(command.overrides)
        if status < 0 or status > 1:
            return 128 - status if status < 0 else status
        worst = max(worst, status)
    return worst


def _train(overrides: Sequence[str]) -> int:
    """Call the training program, and forward signals that request its end, so that it saves its runs."""
    with subprocess.Popen([sys.executable, "-m", "prunelit.train", "-m", *overrides]) as process:
        before = signal.signal(signal.SIGTERM, lambda number, frame: process.send_signal(number))
        try:
            return process.wait()
        finally:
            signal.signal(signal.SIGTERM, before)


def compare_and_write(
    report: Report, request: Request, wanted: Sequence[Command], docs: Path | None = None
) -> Outcome:
    """Compare every published number with the complete runs, print and write the result."""
    studies = read_sweeps(wanted)
    _check_that_runs_are_read(report, request, studies)
    cells = compare(report, studies, request.scale, request.otherwise)
    outcome = Outcome(cells, answers(report, studies, request.scale))
    files = write_outcome(report, request, wanted, studies, outcome)
    if docs is not None:
        kept = Outcome.read(report, docs.with_suffix(""))
        kept.joined(report, outcome).write(report, docs.with_suffix(""))
        write_document(docs)
        files.append(docs)
    screen = console()
    for grid in grids(report, outcome.cells[outcome.cells["n"] > 0]):
        screen.print(for_terminal(grid, screen.is_terminal))
    screen.print(counts(outcome.cells))
    screen.print(f"written: {', '.join(map(str, files))}", soft_wrap=True, markup=False)
    return outcome


def say_what_does_not_apply(request: Request, sweeps: Sequence[Sweep]) -> None:
    """Print a line for each sweep to which not all overrides apply."""
    for sweep in sweeps:
        if left_out := [text for text in request.overrides if text not in request.overrides_of(sweep)]:
            print(f"{' '.join(left_out)}: not for {sweep.name}, which trains nothing", file=sys.stderr)


def _check_that_runs_are_read(report: Report, request: Request, studies: Mapping[str, Study]) -> None:
    """Raise BadRequest if there are complete runs, but none of them is of this request."""
    folder = request.folder(report)
    if not studies and any(folder.glob("*/*/result.json")):
        given = " ".join(request.overrides) or MISSING
        allowed = f"those of the runs in {folder}, with --images if they were run with it (reproduction.json)"
        raise BadRequest("overrides", given, allowed, "none of the complete runs has these settings")
