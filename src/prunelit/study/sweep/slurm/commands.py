"""Queries of SLURM about its jobs and limits."""

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
"""Final states of a job. A job that will be requeued is PENDING or COMPLETING. GONE is not a state of SLURM:
the queue no longer knows the job, because it ended minutes ago."""

ORDINARY = frozenset(["None", "Priority", "Resources", "JobArrayTaskLimit", "BeginTime", "Dependency"])
"""Reasons for waiting that resolve without user action."""

SECONDS = 60
"""Time limit of a command, for a busy controller."""


def jobs() -> dict[str, tuple[str, str]]:
    """Return state and reason of each of this user's jobs, by an id such as ``12_3``.

    Jobs that have ended are listed for some minutes.

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
