"""Hydra's launcher for SLURM, for runs that are submitted once and may fail, be cancelled or be requeued.

Hydra only finds launchers in this namespace.
"""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.utils import JobReturn, JobStatus
from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.slurm.launch import launch
from prunelit.study.sweep.state import Sweep


class RunLauncher(SlurmLauncher):
    """Submits runs to SLURM, and waits for them if ``sweep.wait`` is true."""

    def launch_runs(self, sweep: Sweep, runs: Sequence[Run], first: int) -> Sequence[JobReturn]:
        """Return the result of each run; a failed run does not end the others."""
        values = launch(self, sweep, runs, first)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]
