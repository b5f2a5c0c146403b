"""A run of a sweep as a Hydra job, in the process of this run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from hydra.core.utils import run_job
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict

from prunelit.request import BadRequest
from prunelit.study.command import as_request
from prunelit.study.endings import Ending, RunFailed
from prunelit.study.integrity import DamagedRun
from prunelit.study.lock import Busy
from prunelit.study.sweep.composer import Request, Run
from prunelit.study.unwritable import unwritable

Compose = Callable[[Request], DictConfig]
"""Gives the config of a run from its overrides."""


def do_in_this_process(
    context: HydraContext, task: TaskFunction, config: DictConfig, compose: Compose, run: Run, number: int
) -> float | Exception:
    """Compose the config of ``run`` and execute it; return its accuracy, or in one line why there is none.

    Args:
        context: Hydra's.
        task: executes a run.
        config: the config of the sweep.
        compose: gives the config of a run.
        run: the run.
        number: its number in the sweep.

    With ``hydra/launcher=submitit_local`` its output is written to files in
    ``hydra.launcher.submitit_folder``.
    """
    if "submitit_folder" in config.hydra.launcher:
        _print_to_files(Path(str(config.hydra.launcher.submitit_folder).replace("%j", str(number))), number)
    try:
        composed = compose(run.overrides)
        with open_dict(composed):
            composed.hydra.job.id = f"{composed.hydra.job.name}_{number}"
            composed.hydra.job.num = number
        done = run_job(
            hydra_context=context,
            config=composed,
            task_function=task,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        outcome: float | Exception = done._return_value
    except Exception as error:
        outcome = error
    if isinstance(outcome, Exception) and not isinstance(outcome, (Ending, BadRequest, Busy, DamagedRun)):
        return as_request(outcome) or unwritable(outcome) or RunFailed.of(run.folder, outcome)
    return outcome


def _print_to_files(folder: Path, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stream, name in ((sys.stdout, "out"), (sys.stderr, "err")):
        stream.flush()
        file = os.open(folder / f"{number}_0_log.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(file, 1 if name == "out" else 2)
        os.close(file)
