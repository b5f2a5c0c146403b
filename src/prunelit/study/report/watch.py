"""A view of a sweep under way: what is done, running, failed and waiting."""

from __future__ import annotations

import csv
import io
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from prunelit.request import BadRequest
from prunelit.study.bounded import read_object, read_text
from prunelit.study.duration import duration
from prunelit.study.process import is_abandoned, is_gone
from prunelit.study.report.plain_text import plain
from prunelit.study.report.records.run_files import (
    Files,
    Unreadable,
    find_runs,
    read_run,
    why_stopped,
)
from prunelit.study.report.terminal import console

REFRESH = 2.0
"""Seconds from one look at the files to the next."""
MOST_LINES = 15
"""Runs of a kind that are listed; the others are counted."""
RECENT = 5
"""The number of last epochs from which the remaining time is estimated."""


@dataclass
class Watched:
    """The runs of a sweep as they are now: folder to files, and the folders of those that wait."""

    runs: dict[Path, Files] = field(default_factory=dict)
    waiting: list[Path] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    _stamps: dict[Path, int] = field(default_factory=dict)

    def refresh(self, folders: Sequence[Path]) -> None:
        """Read what has changed; a complete run is read once."""
        self.unreadable = []
        places = [place for folder in folders for place in find_runs(folder)]
        for gone in set(self.runs) - set(places):
            del self.runs[gone]
        for place in places:
            try:
                stamp = _stamp(place)
                if place not in self.runs or self._stamps.get(place) != stamp:
                    self.runs[place], self._stamps[place] = read_run(place), stamp
            except (OSError, Unreadable) as error:
                self.runs.pop(place, None)
                self.unreadable.append(f"{place.name}: {error}")
        self.waiting = _waiting(folders, self.runs)

    def of(self, status: str) -> dict[Path, Files]:
        """Return the runs that are ``complete``, ``running``, ``failed`` or ``stopped``."""
        return {place: files for place, files in self.runs.items() if _status(files) == status}


def watch(folders: Sequence[Path], once: bool = False) -> None:
    """Show the runs below ``folders`` until interrupted; only once if requested, or without a terminal.

    At a terminal it waits for the first run.

    Raises:
        BadRequest: with ``once`` or at no terminal, a folder is missing, or none holds a run or a sweep.
    """
    watched, screen = Watched(), console()
    once = once or not screen.is_terminal
    if not _has_runs(watched, folders):
        if once:
            missing = next((folder for folder in folders if not folder.is_dir()), None)
            why = "there are none" if missing is None else "there is no such folder"
            raise BadRequest("DIR", missing or ", ".join(map(str, folders)), "a folder with runs", why)
        print(f"waiting for the first run in {', '.join(map(str, folders))} (Ctrl-C ends it)", flush=True)
        while not _has_runs(watched, folders):
            time.sleep(REFRESH)
    if once:
        screen.print(view(watched, time.time()))
        return
    with Live(
        view(watched, time.time()), console=screen, auto_refresh=False, vertical_overflow="crop"
    ) as live:
        while True:
            time.sleep(REFRESH)
            watched.refresh([folder for folder in folders if folder.is_dir()])
            live.update(view(watched, time.time()), refresh=True)


def _has_runs(watched: Watched, folders: Sequence[Path]) -> bool:
    """Whether there is a run or a sweep below ``folders``."""
    watched.refresh([folder for folder in folders if folder.is_dir()])
    return bool(watched.runs or watched.waiting or watched.unreadable)


def view(watched: Watched, now: float) -> Group:
    """Return what is shown; ``now`` in seconds since the epoch."""
    done, running = watched.of("complete"), watched.of("running")
    failed, stopped = watched.of("failed"), watched.of("stopped")
    counts = {"done": done, "running": running, "failed": failed, "stopped": stopped}
    said = [f"{len(runs)} {word}" for word, runs in counts.items() if runs or word in ("done", "running")]
    said += [f"{len(watched.waiting)} waiting"] if watched.waiting else []
    parts: list[Any] = [Text(", ".join(said), style="bold")]
    if running:
        parts.append(_running_table(running, now))
    lines = [f"failed   {place.name}: {files.state.get('error', '')}" for place, files in failed.items()]
    lines += [f"stopped  {place.name}: {why_stopped(files.state)}" for place, files in stopped.items()]
    parts += _listed([*lines, *(f"skipped  {line}" for line in watched.unreadable)], "red")
    latest = sorted(done, key=lambda place: (_mtime(place / "result.json"), place.name))[-RECENT:]
    parts += _listed([_done_line(place.name, done[place].result or {}) for place in latest], "green")
    return Group(*parts)


def _running_table(running: Mapping[Path, Files], now: float) -> Table:
    table = Table(box=None, pad_edge=False)
    for head in ("running", "epoch", "top 1, %", "device", "left"):
        table.add_column(head, justify="left" if head in ("running", "device") else "right")
    for place, files in list(running.items())[:MOST_LINES]:
        rows = _epochs(place / "metrics.csv")
        of = files.state.get("epochs")
        top1 = _number(rows[-1].get("test_top1")) if rows else None
        left = _left(rows, of, now - _mtime(place / "metrics.csv"))
        table.add_row(
            Text(plain(place.name)),
            f"{len(rows)} of {of}" if isinstance(of, int) else str(len(rows)),
            "" if top1 is None else f"{top1:.2f}",
            Text(plain(f"{files.state.get('device', '')} {files.state.get('host', '')}").strip()),
            "" if left is None else duration(left),
        )
    if len(running) > MOST_LINES:
        table.add_row(f"and {len(running) - MOST_LINES} more")
    return table


def _left(rows: Sequence[Mapping[str, str]], of: Any, since: float) -> float | None:
    """Return the seconds that the epochs to come take if they take as long as the last ones did."""
    recent = [seconds for row in rows[-RECENT:] if (seconds := _number(row.get("seconds"))) is not None]
    if not recent or not isinstance(of, int):
        return None
    return max(0.0, statistics.mean(recent) * (of - len(rows)) - since)


def _done_line(name: str, result: Mapping[str, Any]) -> str:
    top1, density = result.get("top1"), result.get("density")
    shown = "" if top1 is None else f" top 1 {top1:.2f} %,"
    return f"done     {name}:{shown} {100 * (density or 0):.4g} % kept"


def _listed(lines: Sequence[str], style: str) -> list[Text]:
    texts = [Text(plain(line), style=style, no_wrap=True, overflow="ellipsis") for line in lines[:MOST_LINES]]
    rest = len(lines) - MOST_LINES
    return [*texts, Text(f"and {rest} more", style=style)] if rest > 0 else texts


def _status(files: Files) -> str:
    if files.result is not None:
        return "complete"
    status = str(files.state.get("status"))
    if status == "failed" or (status == "running" and not is_gone(files.state)):
        return status
    return "stopped"


def _waiting(folders: Sequence[Path], runs: Mapping[Path, Files]) -> list[Path]:
    """Return the folders of runs that a sweep under way lists and that have not begun."""
    studies = {*folders, *(place.parent for place in runs)}
    for folder in folders:
        with suppress(OSError):
            studies |= {child for child in folder.iterdir() if child.is_dir()}
    waiting: set[Path] = set()
    for study in studies:
        for path in study.glob(".sweep/*/runs.json"):
            try:
                if is_abandoned(path.parent):
                    continue
                listed = [_place(folder, study) for folder in read_object(path)]
            except (OSError, ValueError, TypeError):
                continue
            waiting |= {place for place in listed if not (place / "status.json").exists()}
    return sorted(waiting)


def _place(folder: str, study: Path) -> Path:
    """Return where a run lies that a sweep of ``study`` lists: here, if the study was moved or mounted."""
    place = Path(folder)
    return place if place.parent.is_dir() else study / place.name


def _epochs(path: Path) -> list[dict[str, str]]:
    try:
        return list(csv.DictReader(io.StringIO(read_text(path))))
    except (OSError, ValueError, csv.Error):
        return []


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def _stamp(place: Path) -> int:
    """Return when the status last changed; it is written again after the result."""
    path = place / "status.json"
    return path.stat().st_mtime_ns if path.exists() else 0


def _mtime(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
