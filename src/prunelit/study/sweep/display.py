"""The progress bar of a run, and its output when it is complete; in a sweep it prints less."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from prunelit.study.record import Row
from prunelit.study.sweep.state import Sweep
from prunelit.study.terminal import complete_line, show_run
from prunelit.turns import current

Bar = Literal["none", "goes", "stays"]
"""Whether there is a progress bar, and whether its last state stays on the screen."""


def bar_shown() -> Bar:
    """Return whether a run shows a progress bar: in a terminal, unless runs are in progress in parallel.

    In a sweep, the line of the run replaces the bar.
    """
    sweep = Sweep.current()
    if not sys.stdout.isatty() or (sweep is not None and sweep.jobs > 1) or current() is not None:
        return "none"
    return "stays" if sweep is None else "goes"


def say_complete(folder: Path, result: Mapping[str, Any], layers: Sequence[Row]) -> None:
    """Report that a run is complete: with a table in a terminal, otherwise in one line.

    In a sweep there is one line, which the leader prints if it started the process of this run.
    """
    sweep = Sweep.current()
    if sweep is not None and sweep.pooled:
        return
    if sweep is None and sys.stdout.isatty():
        show_run(folder, result, layers)
    else:
        print(complete_line(folder), flush=True)
