"""Hydra's launcher for SLURM, for runs that are submitted once and may fail, be cancelled or come back.

Hydra finds launchers in this namespace only.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from prunelit.study.sweep.cluster import launch
from prunelit.study.sweep.composed import Run


class RunLauncher(SlurmLauncher):
    """Submits the runs of a sweep to SLURM, and waits for them if ``sweep.wait`` says so.

    The sweeper sets ``runs`` and ``wait``.
    """

    runs: Sequence[Run] = ()
    wait: bool = True

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Return what each run came to; a failed one does not end the others."""
        runs, self.runs = self.runs, ()
        values = launch(self, runs, initial_job_idx, self.wait)
        return [
            JobReturn(overrides=list(overrides), status=JobStatus.COMPLETED, _return_value=value)
            for overrides, value in zip(job_overrides, values, strict=True)
        ]
