"""The process that leads a sweep: plan, launch, account for every run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict

from prunelit.interruption import Interrupted
from prunelit.request import BadRequest
from prunelit.study.endings import SweepFailed, SweepStopped
from prunelit.study.invocation import Invocation
from prunelit.study.refused import leaving_nothing
from prunelit.study.sweep import preflight, summary
from prunelit.study.sweep.composer import Composer, Request, Run
from prunelit.study.sweep.hydra_job import Compose
from prunelit.study.sweep.launchers import sweep_of
from prunelit.study.sweep.leader_signals import Leader, handled_by
from prunelit.study.sweep.packing import PackedOptions, groups_of
from prunelit.study.sweep.pool import GroupJob, Job, Pool
from prunelit.study.sweep.progress import Progress
from prunelit.study.sweep.run_group import run_group
from prunelit.study.sweep.state import Sweep
from prunelit.study.sweep.worklist import Worklist

Launch = Callable[[DictConfig, Sweep, Sequence[Run], int], Sequence[Any]]
"""Launches runs: takes Hydra's config, the runs and the number of the first; returns Hydra's jobs."""


def lead(
    config: DictConfig,
    loader: Any,
    requests: Sequence[Sequence[str]],
    job: Callable[[Compose, Run, int], Any],
    launch: Launch,
    batch_size: int | None,
) -> list[Sequence[Any]]:
    """Execute the runs of a sweep that are not complete, and print a table of all.

    On this machine, each run has a process that is forked here and calls ``job``. Elsewhere, Hydra's launcher
    executes the runs through ``launch``.

    Raises:
        BadRequest: one of the runs is wrong; nothing was done.
        Interrupted: a signal ended the sweep, after the table.
    """
    study = Path(str(config.hydra.sweep.dir))
    with leaving_nothing(study / ".sweep"):
        composer = Composer(loader, config, study / ".sweep" / "folders.json")
        work = Worklist.of(composer.runs([tuple(request) for request in requests]))
        work.print_complete()
        if not work.todo:
            return []
        first = composer.config_of(work.todo[0].overrides)
        sweep = sweep_of(config, first, len(work.todo), trainers_of(work.todo, composer.config_of))
        if sweep.pooled:  # elsewhere this process would import only for the check
            preflight.try_out(work.todo, composer.config_of)
        if sweep.packs:
            PackedOptions.of(config)
    study.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, study / "multirun.yaml")
    began = sweep.begin(work.todo)
    with open_dict(config):
        config.hydra.overrides.hydra.append(sweep.override())
        if "n_jobs" in config.hydra.launcher:
            config.hydra.launcher.n_jobs = sweep.jobs
    handler = Leader(sweep)
    if sweep.pooled:
        preflight.prepare_for_runs()
        progress = Progress(len(work.complete), len(work.todo), sweep.jobs)
        own: Job = partial(job, composer.config_of)
        together, groups = _together(config, sweep, work.todo, own, composer)
        pool = Pool(sweep, own, first.sweep, progress, together, partial(_get_ready, composer))
        launch, batch_size = _launch_in(pool, groups), None
    with handled_by(handler):
        jobs, end = _launched(config, handler, work.todo, launch, batch_size or len(work.todo))
    values = dict(zip((run.folder for run in work.todo), map(_returned, chain(*jobs)), strict=False))
    if isinstance(end, SweepStopped):
        values[end.folder] = end.outcome
    status = _account(study, work, began, values)
    sweep.end()
    if handler.signum:
        raise Interrupted(handler.signum)
    # In place of what runs raised in this process: the sweep's table has said it.
    raised = [end] if isinstance(end, Exception) else []
    Invocation.current().failures = [*raised, *([SweepFailed(status)] if status else [])]
    return jobs


def trainers_of(runs: Sequence[Run], compose: Callable[[Request], DictConfig]) -> list[DictConfig]:
    """Return the ``trainer`` node of one run for each combination of overrides that can change it."""
    chosen: dict[frozenset[str], Request] = {}
    for run in runs:
        changing = (text for text in run.overrides if text.lstrip("+~").startswith(("trainer", "experiment")))
        chosen.setdefault(frozenset(changing), run.overrides)
    return [compose(request).trainer for request in chosen.values()]


def _get_ready(composer: Composer, run: Run) -> None:
    config = composer.compose_ahead(run.overrides)
    if get_ready := Invocation.current().get_ready:
        get_ready(config)


def _launch_in(pool: Pool, groups: list[list[int]] | None) -> Launch:
    def launch(config: DictConfig, sweep: Sweep, runs: Sequence[Run], first: int) -> Sequence[Any]:
        values = pool.execute(runs, groups)
        return [JobReturn(status=JobStatus.COMPLETED, _return_value=value) for value in values]

    return launch


def _together(
    config: DictConfig, sweep: Sweep, runs: Sequence[Run], job: Job, composer: Composer
) -> tuple[GroupJob | None, list[list[int]] | None]:
    """Return the function that executes a group of runs, and the groups; None if each run has its process."""
    if not sweep.packs:
        return None, None

    def group_job(numbered: Sequence[tuple[Run, int]]) -> Sequence[Any]:
        return run_group(job, numbered, composer.config_of(numbered[0][0].overrides), sweep)

    options, fit = PackedOptions.of(config), Invocation.current().runs_that_fit
    return group_job, groups_of(runs, composer.config_of, options, sweep.jobs, fit)


def _launched(
    config: DictConfig, handler: Leader, runs: Sequence[Run], launch: Launch, batch_size: int
) -> tuple[list[Sequence[Any]], Exception | SweepStopped | None]:
    """Launch batch by batch; return the jobs of the completed batches, and why the sweep ended early."""
    jobs: list[Sequence[Any]] = []
    try:
        for first in range(0, len(runs), batch_size):
            if not handler.sweep.stopped:
                jobs.append(launch(config, handler.sweep, runs[first : first + batch_size], first))
    except (Interrupted, KeyboardInterrupt):
        pass  # the records on disk contain the state of each run
    except BadRequest:  # of the launcher, which reports what it has started
        handler.sweep.end()
        raise
    except (SweepStopped, Exception) as error:
        return jobs, error
    return jobs, None


def _account(study: Path, work: Worklist, began: float, values: Mapping[Path, Any]) -> int:
    """Print the result of each run and return the exit status.

    It is 0 if all results are on disk or in the queue of a cluster, and 2 if all started runs were refused.
    """
    rows = [summary.row_of(run, began, values.get(run.folder)) for run in work.todo]
    summary.show([summary.Row(run.folder, "skipped") for run in work.complete] + rows)
    if work.complete or any(row.state == "done" for row in rows):
        print(f"next: python -m prunelit.report {shlex.quote(str(study))}", flush=True)
    if all(row.state in ("done", "submitted") for row in rows):
        return 0
    begun = [row for row in rows if row.state != "not started"]
    return 2 if begun and all(isinstance(values.get(row.folder), BadRequest) for row in begun) else 1


def _returned(job: Any) -> Any:
    try:
        return job.return_value
    except Exception as error:
        return error
