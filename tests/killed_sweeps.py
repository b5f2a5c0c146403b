"""Sweeps in processes of their own, and which processes they consist of."""

import os
import signal
import sys
import time
from pathlib import Path

from forked_runs import SMALL, server
from prunelit import train
from prunelit.study import command
from prunelit.study.sweep import preflight

PATIENCE = 600.0
"""Seconds to wait for something that must come: a machine under load is slow."""


def begin_sweep(folder: Path, *overrides: str):
    """Start a sweep whose current folder is ``folder``, by which its processes are known."""
    process = server.Process(target=_sweep, args=(folder, overrides))
    process.start()
    return process


def _sweep(folder: Path, overrides: tuple[str, ...]) -> None:
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["train.py", "-m", *SMALL, *overrides]
    preflight.register(train.refuse, train.prepare)
    sys.exit(command.call(train.run, sys.argv))


def processes(folder: Path) -> dict[int, int]:
    """The living processes whose current folder this is, each with its parent."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if (entry / "cwd").readlink() == folder:
                    state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                    if state not in "ZX":
                        found[int(entry.name)] = int(parent)
            except OSError:
                continue
    return found


def of_kind(kind: str, folder: Path, leader: int) -> list[int]:
    """The processes that are ``leader``, a ``run`` or a ``worker`` (of data, or a rank) of a run."""
    parents = processes(folder)
    runs = [pid for pid, parent in parents.items() if parent == leader]
    workers = [pid for pid, parent in parents.items() if parent in runs]
    return {"leader": [leader] if leader in parents else [], "run": runs, "worker": workers}[kind]


def wait_for(condition, what: str):
    """Return the first value of ``condition()`` that is true."""
    deadline = time.monotonic() + PATIENCE
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} in {PATIENCE} s"
        time.sleep(0.005)
    return value


def kill(pid: int, number: int = signal.SIGKILL) -> bool:
    """Send a signal; return whether there was still a process to take it."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return False
    return True


def findings_of(folder: Path) -> dict[str, bytes]:
    """The weights and masks of each complete run below ``folder``."""
    runs = [path.parent for path in folder.glob("outputs/*/*/result.json")]
    names = ("weights.safetensors", "masks.safetensors")
    return {f"{run.name}/{name}": (run / name).read_bytes() for run in runs for name in names}
