"""What SLURM says of its jobs and of itself."""

from __future__ import annotations

import os
import re
import subprocess

ENDED = frozenset(
    (
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY"),
        *("PREEMPTED", "REVOKED", "TIMEOUT", "GONE"),
    )
)
"""States from which a job does not come back. One that is to be requeued is PENDING or COMPLETING; GONE is
our word for one that the queue does not know any more: it ended minutes ago."""

SECONDS = 60
"""How long a command may take on a controller that has much to do."""


def states() -> dict[str, str]:
    """Return the state of each of this user's jobs by its id, as ``12_3``; ended ones stay for some minutes.

    Raises:
        OSError: there is no ``squeue`` here.
        subprocess.SubprocessError: SLURM's controller does not answer.
    """
    lines = _told(
        ["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", "--format=%i|%T"]
    )
    return dict(line.split("|", 1) for line in lines.splitlines() if "|" in line)


def most_tasks() -> int:
    """Return how many jobs an array may have on this cluster."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _told(["scontrol", "show", "config"]))
    return max(1, int(found[1])) if found else 1001


def _told(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
