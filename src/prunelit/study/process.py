"""The process that does a run or leads a sweep, as a file names it, and whether it still runs."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunelit.study.bounded import read_object


def this_process() -> dict[str, Any]:
    """Return what names this process to others, on other machines too: ``pid`` and ``host``."""
    return {"pid": os.getpid(), "host": socket.gethostname()}


def is_gone(process: Mapping[str, Any]) -> bool:
    """Whether a process that :func:`this_process` named ran on this machine and runs no more."""
    pid = process.get("pid")
    if not isinstance(pid, int) or pid <= 0 or process.get("host") != socket.gethostname():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    with suppress(OSError):  # where there is no /proc nobody can tell
        # The name, in parentheses, may hold anything; the state is the letter after it.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    return False


def is_abandoned(folder: Path) -> bool:
    """Whether the leader of the sweep whose folder this is was killed, so that nobody begins its other runs.

    The jobs of a cluster go on without their leader.
    """
    try:
        sweep = read_object(folder / "sweep.json")
    except (OSError, ValueError):
        return False
    return not sweep.get("cluster") and is_gone({"pid": sweep.get("leader"), "host": sweep.get("host")})
