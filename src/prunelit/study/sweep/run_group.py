"""Execute several runs of a sweep in one process, in which they train together."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from prunelit.interruption import SIGNALS, Interrupted, Interruption
from prunelit.study.endings import NotStarted, RunFailed
from prunelit.study.invocation import Invocation
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.machine_share import machine_share
from prunelit.study.sweep.pool import Job, interrupted
from prunelit.study.sweep.state import VARIABLE, Sweep

Numbered = tuple[Run, int]
"""A run and its number in the sweep."""


def run_group(job: Job, runs: Sequence[Numbered], first: DictConfig, sweep: Sweep) -> list[Any]:
    """Return the accuracy of each run, or why there is none.

    Args:
        job: executes a run in a thread of this process.
        runs: the runs, which use the same devices and number of threads.
        first: the config of one of them.
        sweep: the sweep.
    """
    together = Invocation.current().together
    assert together is not None, "this program has no runs that train together"
    os.environ[VARIABLE] = str(sweep.folder)  # Hydra sets it for each run, and removes it when the run ends
    with Interruption() as interruption, machine_share(first, sweep) as threads:
        interruption.waiting = SIGNALS
        tasks = [partial(job, run, number) for run, number in runs]
        ended = together()(tasks, [LogFiles(), Warnings()], interruption, threads)
    return [_outcome(run.folder, value) for (run, _), value in zip(runs, ended, strict=True)]


def _outcome(folder: Path, value: Any) -> Any:
    if value is None or isinstance(value, NotStarted):
        return NotStarted(folder, "interrupted")
    if isinstance(value, (Interrupted, KeyboardInterrupt)):
        return interrupted(folder)
    if isinstance(value, BaseException) and not isinstance(value, Exception):
        return RunFailed.of(folder, value)
    return value


class LogFiles:
    """Hydra's config of the running job, and the files to which the log is written."""

    def save(self) -> Any:
        """Return both."""
        return HydraConfig.instance().cfg, logging.root.handlers[:], logging.root.level

    def restore(self, value: Any) -> None:
        """Set both."""
        HydraConfig.instance().cfg, logging.root.handlers[:], logging.root.level = value


class Warnings:
    """Which warnings are shown, and how."""

    def save(self) -> Any:
        """Return the filters and the function that shows a warning."""
        return warnings.filters, warnings.showwarning

    def restore(self, value: Any) -> None:
        """Set them."""
        warnings.filters, warnings.showwarning = value
        getattr(warnings, "_filters_mutated", lambda: None)()  # forgets which warnings were filtered before
