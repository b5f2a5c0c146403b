"""Sweeps in processes of their own, and which processes they consist of."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from forked_runs import SMALL, server
from prunelit import train
from prunelit.study import command
from prunelit.study.invocation import Invocation
from prunelit.training.run.prepare import prepare, refuse

PATIENCE = 600.0
"""Seconds to wait for something that must come: a machine under load is slow."""
SHORT = ("pruner=snip", "epochs=1", "sweep.jobs=2")


class Sweep:
    """A sweep of short runs whose current folder is ``folder``, by which its processes are known.

    Attributes:
        runs: how many runs there are; they differ in their seeds.
    """

    def __init__(self, folder: Path, runs: int, *overrides: str) -> None:
        self.folder, self.runs = folder, runs
        seeds = ",".join(map(str, range(1, runs + 1)))
        self._process = server.Process(target=_sweep, args=(folder, (*SHORT, f"seed={seeds}", *overrides)))
        self._process.start()

    @property
    def leader(self) -> int:
        """The process that leads."""
        assert self._process.pid
        return self._process.pid

    @property
    def said(self) -> str:
        """What this sweep, and earlier ones in this folder, have printed."""
        path = self.folder / "said.txt"
        return path.read_text() if path.exists() else ""

    def is_alive(self) -> bool:
        return self._process.is_alive()

    def join(self) -> int | None:
        """Wait for the end; return the exit status."""
        self._process.join()
        return self._process.exitcode


def _sweep(folder: Path, overrides: tuple[str, ...]) -> None:
    os.chdir(folder)
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    sys.argv = ["train.py", "-m", *SMALL, *overrides]
    sys.exit(command.call(train.run, sys.argv, Invocation(refuse, prepare)))


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


def of_kind(kind: str, sweep: Sweep) -> list[int]:
    """The processes of a sweep of a kind: ``leader``, ``run``, or ``data worker`` or ``rank`` of a run."""
    parents = processes(sweep.folder)
    if kind == "leader":
        return [sweep.leader] if sweep.leader in parents else []
    runs = [pid for pid, parent in parents.items() if parent == sweep.leader]
    return runs if kind == "run" else [pid for pid, parent in parents.items() if parent in runs]


def wait_for(condition, what: str, patience: float = PATIENCE):
    """Return the first value of ``condition()`` that is true."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < deadline, f"no {what} in {patience} s"
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


def statuses_of(folder: Path) -> dict[str, str]:
    """The status of each run below ``folder``, by its name."""
    paths = folder.glob("outputs/*/*/status.json")
    return {path.parent.name: json.loads(path.read_text())["status"] for path in paths}
