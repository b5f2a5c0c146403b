"""Runs as SLURM jobs: submit each once, follow it in the queue, and read its result from disk.

Submitted jobs are recorded in the sweep's folder, ``slurm-<job>.json``, so that a later command does not
submit it again but waits for it.
"""

from __future__ import annotations

import json
import pickle
import shlex
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from prunelit.interruption import Interrupted
from prunelit.request import BadRequest
from prunelit.study.endings import RunFailed, Submitted
from prunelit.study.lock import is_busy
from prunelit.study.record import Record, write_atomically
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.slurm import commands
from prunelit.study.sweep.slurm.submission import Jobs, Submission, key
from prunelit.study.sweep.state import QUEUED, Sweep

SHORTEST_SECONDS, LONGEST_SECONDS = 1.0, 30.0
"""Seconds between queries of the queue, first short and later long; SLURM forgets a job after 300 s."""
GRACE_SECONDS = 15.0
"""Seconds until the files of a job that has ended are visible on a network file system."""


def launch(launcher: Any, sweep: Sweep, runs: Sequence[Run], first: int) -> list[Any]:
    """Execute runs as SLURM jobs; return for each its accuracy, why there is none, or None (see its record).

    Runs that are already in the queue are not submitted again. With ``sweep.wait=false``, the result of all
    runs is Submitted.

    Raises:
        BadRequest: SLURM refuses some jobs; those that it accepted before continue.
    """
    study = sweep.folder.parents[1]
    queued = in_queue(study)
    taken = {folder for folders in queued.values() for folder in folders}
    new = [(run, number) for number, run in enumerate(runs, first) if key(run.folder) not in taken]
    submitted: Jobs = {}
    try:
        for jobs in Submission(launcher, sweep.folder).submit(new):
            write_atomically(sweep.folder / f"{QUEUED}{next(iter(jobs))}.json", json.dumps(jobs))
            submitted |= jobs
    except BadRequest:
        if submitted:  # the first arrays may be accepted and the next refused
            _print_jobs(study, submitted, {})
            _print_later_commands(study, list(submitted))
        raise
    asked = [key(run.folder) for run in runs]
    waiting = {job: folders for job, folders in queued.items() if not set(folders).isdisjoint(asked)}
    _print_jobs(study, submitted, waiting)
    jobs = waiting | submitted
    job_of = {folder: job for job, folders in jobs.items() for folder in folders}
    outcomes: dict[str, Any] = {}
    left = True
    with suppress(KeyboardInterrupt, Interrupted):  # jobs go on
        if launcher.config.sweep.wait:
            for job, state in ended(jobs, launcher.params["submitit_folder"]):
                paths = _paths(launcher.params["submitit_folder"], job)
                outcomes |= _outcomes(job, jobs[job], state, paths)
            left = False
    if left:
        _print_later_commands(study, list(jobs))
    else:
        in_queue(study)  # forgets jobs that have ended
    return [
        outcomes[folder] if folder in outcomes else Submitted(run.folder, job_of[folder])
        for run, folder in zip(runs, asked, strict=True)
    ]


def in_queue(study: Path) -> Jobs:
    """Return the pending and running jobs of a study; remove the files of sweeps that have ended."""
    sweeps: dict[Path, Jobs] = {}
    for file in (study / ".sweep").glob(f"*/{QUEUED}*.json"):
        sweeps.setdefault(file.parent, {}).update(json.loads(file.read_text()))
    found = commands.jobs() if sweeps else {}
    alive: Jobs = {}
    for folder, jobs in sweeps.items():
        here = {
            job: runs for job, runs in jobs.items() if job in found and found[job][0] not in commands.ENDED
        }
        alive |= here
        if not here:
            shutil.rmtree(folder, ignore_errors=True)
    return alive


def ended(jobs: Iterable[str], folder: str) -> Iterator[tuple[str, str]]:
    """Yield each job with its last state, once it has ended and its files are visible.

    ``folder`` is where submitit keeps a job's files, with ``%j`` in place of the job's id.
    """
    open_jobs, since, told = set(jobs), dict[str, float](), set(commands.ORDINARY)
    pause = SHORTEST_SECONDS
    while True:
        with suppress(subprocess.SubprocessError):  # a busy controller: query it again
            found = commands.jobs()
            for job in sorted(open_jobs):
                state, reason = found.get(job, ("GONE", ""))
                if state == "PENDING" and reason not in told:
                    told.add(reason)
                    print(f"SLURM job {job} waits: {reason}", flush=True)
                if state not in commands.ENDED:
                    since.pop(job, None)
                    continue
                waited = time.monotonic() - since.setdefault(job, time.monotonic())
                if _paths(folder, job).result_pickle.exists() or waited > GRACE_SECONDS:
                    open_jobs.discard(job)
                    yield job, state
        if not open_jobs:
            return
        time.sleep(pause)
        pause = min(LONGEST_SECONDS, 1.2 * pause)


def _outcomes(job: str, folders: Sequence[str], state: str, paths: Any) -> dict[str, Any]:
    """Return the outcome of each run of a job that has ended."""
    try:
        word, told = pickle.loads(paths.result_pickle.read_bytes())
    except (OSError, EOFError):
        word, told = "error", f"SLURM job {job} is {state}"
    if word == "success":
        paths.result_pickle.unlink()
        paths.submitted_pickle.unlink(missing_ok=True)
        return dict(zip(folders, told, strict=True))
    last = str(told).strip().splitlines()[-1]
    return {folder: _lost(Path(folder), f"{last}; its output: {paths.stdout}") for folder in folders}


def _lost(folder: Path, why: str) -> RunFailed | None:
    """Return the failure of a run whose job ended without a result, None if its record is complete."""
    record, failure = Record(folder), RunFailed(folder, why)
    if record.complete:
        return None
    if not is_busy(folder):
        record.start()
        record.fail(failure)
    return failure


def _paths(folder: str, job: str) -> Any:
    from submitit.core.utils import JobPaths

    return JobPaths(folder, job_id=job, task_id=0)


def _print_jobs(study: Path, submitted: Jobs, waiting: Jobs) -> None:
    """Print which jobs execute the runs."""
    for how, jobs in (("submitted", submitted), ("already in the queue", waiting)):
        if jobs:
            arrays = Counter(job.partition("_")[0] for job in jobs)
            listed = ", ".join(f"{array} ({number})" for array, number in arrays.items())
            runs = sum(map(len, jobs.values()))
            print(f"{how}: {runs} runs in SLURM jobs {listed}; their logs: {study / '.submitit'}", flush=True)


def _print_later_commands(study: Path, jobs: Sequence[str]) -> None:
    """Print the commands that show, cancel and collect jobs after ``sweep.wait=false``."""
    ids = list(dict.fromkeys(job.partition("_")[0] for job in jobs))
    command = [word for word in sys.orig_argv if not word.lstrip("+").startswith("sweep.wait=")]
    print(f"status: squeue --job {','.join(ids)}; cancel: scancel {' '.join(ids)}")
    print(f"wait for them and repeat failed runs: {shlex.join(command)}")
    print(f"results so far: python -m prunelit.report {study}", flush=True)
