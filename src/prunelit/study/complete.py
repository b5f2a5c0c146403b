"""Check a run that is complete already instead of repeating it: its files, and the inputs that it read."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

from prunelit.study.inputs import Inputs
from prunelit.study.record import Record


def confirmed_line(record: Record, shown: Path | None = None) -> str:
    """Return the line on a complete run, once its files are found to be whole.

    Args:
        record: of the run.
        shown: how the line names its folder; None: as the record does.

    Raises:
        DamagedRun: a file is not what the run wrote, or the images or weights that it read have changed.
    """
    record.check()
    Inputs().check(record.folder)
    return f"complete already: {shown or record.folder} (rerun=true repeats it)"


def confirm(record: Record) -> dict[str, Any]:
    """Say that a run is complete already, and return its result.

    Raises:
        DamagedRun: as :func:`confirmed_line`.
    """
    print(confirmed_line(record))
    return record.result


def make_way(record: Record, rerun: bool) -> bool:
    """Return whether a run is to be done; a complete one that is to be repeated is put aside.

    Called under the run's lock: another process may have completed the run, or have been killed just before
    the last line of its status.
    """
    if not record.complete:
        return True
    if rerun:
        _put_aside(record)
        return True
    record.check()
    record.settle()
    return False


def _put_aside(record: Record) -> None:
    """Move an old record away, but for what Hydra has written already for the run that takes its place."""
    old = record.put_aside()
    if (old / ".hydra").is_dir():
        shutil.copytree(old / ".hydra", record.folder / ".hydra")
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()  # the next line opens it again, in the new folder
