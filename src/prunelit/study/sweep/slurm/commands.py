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

ORDINARY = frozenset(["None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"])
"""Reasons for waiting that go away by themselves."""

SECONDS = 60
"""How long a command may take on a controller that has much to do."""


def jobs() -> dict[str, tuple[str, str]]:
    """Return state and reason of each of this user's jobs by its id, as ``12_3``.

    Ended ones stay for some minutes.

    Raises:
        OSError: there is no ``squeue`` here.
        subprocess.SubprocessError: SLURM's controller does not answer.
    """
    form = "--format=%i|%T|%r"
    told = _told(["squeue", "--noheader", "--array", "--states=all", f"--user={os.getuid()}", form])
    rows = [line.split("|", 2) for line in told.splitlines() if line.count("|") >= 2]
    return {job: (state, reason) for job, state, reason in rows}


def most_tasks() -> int:
    """Return how many jobs an array may have on this cluster."""
    found = re.search(r"MaxArraySize\s*=\s*(\d+)", _told(["scontrol", "show", "config"]))
    return max(1, int(found[1])) if found else 1001


def _told(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=SECONDS).stdout
