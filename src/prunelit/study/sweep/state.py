"""The state that the processes of one sweep share: a folder in ``<study>/.sweep/``."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from prunelit.durable import write_atomically
from prunelit.study.process import is_abandoned

if TYPE_CHECKING:
    from prunelit.study.sweep.composer import Run

VARIABLE = "PRUNELIT_SWEEP"
"""The environment variable that names a sweep's folder in each of its jobs."""

QUEUED = "slurm-"
"""Prefix of the files that name the jobs of a sweep on a cluster; jobs need the sweep's folder."""


@dataclass(frozen=True)
class Sweep:
    """A running sweep, as seen by its jobs with any launcher.

    Attributes:
        jobs: the number of runs at a time on this machine.
        isolate: each run has its own process.
        pooled: the leader starts these processes, and prints a line for each run.
        packs: runs of the same form share a process.
        shared: runs lease this machine's ``gpus`` (CUDA name to UUID) or cores.
        cluster: jobs outlive the leader.
        leader: the process that launched the jobs, on the machine ``host``.
    """

    folder: Path
    jobs: int = 1
    isolate: bool = False
    pooled: bool = False
    packs: bool = False
    shared: bool = False
    gpus: dict[str, str] = field(default_factory=dict)
    cluster: bool = False
    leader: int = 0
    host: str = ""

    @classmethod
    def current(cls) -> Sweep | None:
        """Return the sweep of this process, None for a single run."""
        folder = os.environ.get(VARIABLE)
        if not folder or not (path := Path(folder, "sweep.json")).is_file():
            return None
        return cls(folder=Path(folder), **json.loads(path.read_text()))

    @staticmethod
    def new_folder(study: Path) -> Path:
        """Return a folder for a sweep that starts now."""
        return (study / ".sweep" / f"{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}").absolute()

    def begin(self, runs: Sequence[Run]) -> float:
        """Write ``sweep.json`` and ``runs.json``: the folder and the overrides of each run.

        Return the start time of the sweep in seconds since the epoch, by the clock of the file system.
        Folders of sweeps whose leader was killed are removed.
        """
        for other in self.folder.parent.glob("*/sweep.json"):
            if is_abandoned(other.parent):
                shutil.rmtree(other.parent, ignore_errors=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        values = asdict(self)
        del values["folder"]
        write_atomically(self.folder / "sweep.json", json.dumps(values))
        listed = {str(run.folder.absolute()): run.overrides for run in runs}
        write_atomically(self.folder / "runs.json", json.dumps(listed, indent=0))
        return (self.folder / "sweep.json").stat().st_mtime

    def end(self) -> None:
        """Remove the folder, unless jobs are still in the queue of a cluster."""
        if not any(self.folder.glob(f"{QUEUED}*")):
            shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self, why: str) -> None:
        """Let no job of this sweep start another run; ``interrupted`` also ends those in progress."""
        write_atomically(self.folder / "stop", why)

    @property
    def stopped(self) -> str | None:
        """Why no further run may start: ``failed`` or ``interrupted``; None if runs may start."""
        try:
            return (self.folder / "stop").read_text()
        except OSError:
            return None

    def override(self) -> str:
        """Return the override of Hydra's config that identifies the sweep in each job."""
        quoted = str(self.folder).replace("'", "\\'")
        return f"++hydra.job.env_set.{VARIABLE}='{quoted}'"
