"""Submit runs as SLURM jobs, in arrays as large as the cluster allows, with a small pickle for each."""

from __future__ import annotations

import io
import pickle
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunelit.request import BadRequest
from prunelit.study.record import write_atomically
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.slurm import commands

COMMON = (
    "name",
    "timeout_min",
    "mem_gb",
    "nodes",
    "cpus_per_task",
    "gpus_per_node",
    "tasks_per_node",
    "stderr_to_stdout",
)
"""Keys that submitit supports for every kind of cluster; the others belong to SLURM."""

THREADS = (
    '[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"',
    'export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"',
)
"""The first lines of the script of a job. Since SLURM 22.05, ``srun`` does not inherit the number of cores
from ``sbatch``, and libraries would then start a thread for every core of the node."""

COMPLAINTS = {
    "partition": "partition",
    "account": "account",
    "qos": "qos",
    "feature": "constraint",
    "gres": "gpus_per_node",
    "time limit": "timeout_min",
    "memory": "mem_gb",
    "cpu count": "cpus_per_task",
    "node count": "nodes",
    "node configuration": "cpus_per_task",
}
"""Words in messages of ``sbatch``, mapped to the key that they concern."""

NO_CONTROLLER = ("configuration source", "contact slurm controller")
"""Words in the messages of SLURM's commands if it is installed but not running."""

TOO_MANY = ("temporarily unavailable", "submit limit", "SubmitJob")
"""Words in messages of ``sbatch`` if the cluster or the user may not have more jobs."""

Jobs = dict[str, list[str]]
"""The folders of the runs of each job; names are not sufficient, because runs of two studies may share
one."""


def key(folder: Path) -> str:
    """Return the key of a run in Jobs, independent of the current folder."""
    return str(folder.absolute())


class Task:
    """The task of one job: some runs of a sweep, one after the other; a requeued job executes those that are
    not complete.

    Args:
        shared: file with the launcher and Hydra's state, the same for all jobs of a sweep.
        runs: the overrides of each run and its number in the sweep.
    """

    def __init__(self, shared: Path, runs: Sequence[tuple[Sequence[str], int]]) -> None:
        self.shared, self.runs = shared, runs

    def __call__(self) -> list[Any]:
        """Return what each run returned."""
        launcher, state = pickle.loads(self.shared.read_bytes())
        jobs = [launcher(list(o), "hydra.sweep.dir", number, str(number), state) for o, number in self.runs]
        return [job.return_value for job in jobs]

    def checkpoint(self) -> Any:
        """Return the task that submitit requeues: this one, because the runs resume by themselves."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


@dataclass(frozen=True)
class Submission:
    """Submits runs for ``launcher``, which a job calls in the way Hydra calls its submitit launchers.

    ``folder`` contains the files that the jobs share.
    """

    launcher: Any
    folder: Path

    def submit(self, runs: Sequence[tuple[Run, int]]) -> Iterator[Jobs]:
        """Submit numbered runs array by array; yield the jobs of each.

        Raises:
            BadRequest: SLURM refuses the jobs, or their processes cannot execute them together.
        """
        if not runs:
            return
        self._check_ranks()
        size = self.launcher.config.sweep.runs_per_job
        shares = [runs[start : start + size] for start in range(0, len(runs), size)]
        try:
            most = commands.most_tasks()
            executor = self._executor(num_arrays=-(-len(shares) // most))
            shared = self._share()
            for start in range(0, len(shares), most):
                part = shares[start : start + most]
                tasks = [Task(shared, [(run.overrides, number) for run, number in share]) for share in part]
                with redirect_stderr(io.StringIO()):  # the error contains the message of sbatch
                    jobs = executor.submit_array(tasks)
                yield {
                    job.job_id: [key(run.folder) for run, _ in share]
                    for job, share in zip(jobs, part, strict=True)
                }
        except (RuntimeError, OSError, subprocess.SubprocessError) as error:
            raise self._refusal(error) from error

    def _check_ranks(self) -> None:
        """Refuse what the processes of a job cannot do together, because only rank 0 knows how a run has
        ended."""
        asked, params = self.launcher.config.sweep, self.launcher.params
        tasks = (params["nodes"] or 1) * (params["tasks_per_node"] or 1)
        if tasks > 1 and asked.runs_per_job > 1:
            why = f"a job has {tasks} tasks"
            raise BadRequest("sweep.runs_per_job", asked.runs_per_job, "1", why)
        if tasks > 1 and asked.on_failure != "continue":
            why = f"a job has {tasks} tasks"
            raise BadRequest("sweep.on_failure", asked.on_failure, "continue", why)

    def _share(self) -> Path:
        """Write what all jobs need, and return the file."""
        import cloudpickle
        from hydra.core.singleton import Singleton

        file = self.folder / "launcher.pkl"
        write_atomically(file, cloudpickle.dumps((self.launcher, Singleton.get_state())))
        return file

    def _executor(self, num_arrays: int) -> Any:
        """Return the executor, with its values from the config."""
        import submitit

        values = dict(self.launcher.params)
        values["array_parallelism"] = max(1, values["array_parallelism"] // num_arrays)
        values["setup"] = [*THREADS, *(values["setup"] or [])]
        executor = submitit.AutoExecutor(
            folder=values.pop("submitit_folder"),
            cluster="slurm",
            slurm_max_num_timeout=values.pop("max_num_timeout"),
        )
        executor.update_parameters(
            **{key if key in COMMON else f"slurm_{key}": values[key] for key in values}
        )
        return executor

    def _refusal(self, error: Exception) -> BadRequest:
        """Return the error for jobs that SLURM refuses, with the key that caused it."""
        if isinstance(error, FileNotFoundError) or "srun" in str(error):
            return BadRequest(
                "hydra/launcher",
                "submitit_slurm",
                "a launcher for this machine",
                "SLURM is not installed on this machine",
            )
        words = (getattr(error, "stderr", None) or str(error)).replace("sbatch: error: ", " ").strip()
        if any(sign in words for sign in NO_CONTROLLER):
            allowed = "a launcher for this machine"
            return BadRequest(
                "hydra/launcher",
                "submitit_slurm",
                allowed,
                "SLURM is installed here, but no controller answers",
            )
        if any(sign in words for sign in TOO_MANY):
            now, allowed = (
                self.launcher.config.sweep.runs_per_job,
                "more runs per job, so that there are fewer jobs",
            )
            return BadRequest("sweep.runs_per_job", now, allowed, words)
        key = next((key for sign, key in COMPLAINTS.items() if sign in words.lower()), None)
        if key is None:
            return BadRequest("hydra/launcher", "submitit_slurm", "what SLURM takes", words)
        return BadRequest(
            f"hydra.launcher.{key}", self.launcher.params[key], "what the cluster offers", words
        )
