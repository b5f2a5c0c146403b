"""Execute one run of a sweep in the process of a launcher: isolated, with retries, or not at all."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
import warnings
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from prunelit.interruption import SIGNALS, Interrupted
from prunelit.place import is_first
from prunelit.request import BadRequest
from prunelit.study import identity
from prunelit.study.command import as_request, outcome_of
from prunelit.study.endings import NotStarted, RunFailed, SweepStopped
from prunelit.study.integrity import DamagedRun
from prunelit.study.lock import Busy
from prunelit.study.sweep.isolation import Killed, in_own_process
from prunelit.study.sweep.pool import interrupted, killed
from prunelit.study.sweep.state import Sweep

Work = Callable[[DictConfig], Mapping[str, Any]]
"""Executes a run and returns its result."""


def run_here(cfg: DictConfig, work: Work, prepare: Callable[[], None]) -> float | Exception:
    """Execute one run, of a sweep or alone; return its accuracy, or the reason why there is none."""
    sweep = Sweep.current()
    if sweep is not None and is_first():
        return run_in_sweep(cfg, sweep, work, prepare)
    return outcome_of(lambda: accuracy_of(work(cfg)))


def accuracy_of(result: Mapping[str, Any]) -> float:
    """Return the test accuracy in percent, for sweepers that optimise it."""
    return float(result["top1"])


def run_in_sweep(cfg: DictConfig, sweep: Sweep, work: Work, prepare: Callable[[], None]) -> float | Exception:
    """Execute one run of a sweep; return its accuracy, or in one line why there is none.

    ``prepare`` imports what ``work`` needs, before the process for the run is forked.
    """
    folder = identity.folder(cfg)
    if sweep.pooled:  # this process executes only this run
        return _outcome(cfg, folder, work)
    leads = os.getpid() == sweep.leader
    if not leads and sweep.isolate:
        # Ctrl-C in a terminal, and SIGTERM of `timeout`, reach every process; the leader decides.
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, signal.SIG_IGN)
    outcome: float | Exception = NotStarted(folder, "not started")
    tries = 1 + (cfg.sweep.retries if cfg.sweep.on_failure == "retry" else 0)
    while tries and not sweep.stopped:
        outcome, tries = _attempt(cfg, folder, sweep, work, prepare), tries - 1
        if isinstance(outcome, RunFailed):
            again = " (trying again)" if tries and not sweep.stopped else ""
            _print_error(f"failed: {folder}: {outcome.why}{again}")
        else:
            tries = 0
    if isinstance(outcome, Exception) and not isinstance(outcome, (RunFailed, NotStarted)):
        _print_error(str(outcome))
    if isinstance(outcome, (RunFailed, BadRequest)) and cfg.sweep.on_failure == "stop":
        sweep.stop("failed")
    if leads and sweep.stopped:
        # The next runs need not be composed, because they will not be executed.
        raise SweepStopped(folder, outcome)
    return outcome


def _attempt(
    cfg: DictConfig, folder: Path, sweep: Sweep, work: Work, prepare: Callable[[], None]
) -> float | Exception:
    def task() -> float | Exception:
        return _outcome(cfg, folder, work)

    try:
        if not sweep.isolate:
            return task()
        warm_up(prepare)
        outcome: float | Exception = in_own_process(task, lambda: sweep.stopped == "interrupted")
        return outcome
    except Interrupted:
        if sweep.cluster:
            raise  # the scheduler sent the signal and receives the exit status of the job
        return interrupted(folder)
    except Killed as error:
        return killed(folder, error)


@cache
def warm_up(prepare: Callable[[], None]) -> None:
    """Import once, and exclude the imported objects from garbage collection, also in forked processes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # libraries may warn when they are imported
        prepare()
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # some libraries warn about remaining objects at exit


def _outcome(cfg: DictConfig, folder: Path, work: Work) -> float | Exception:
    """Return the outcome of a run in a form that can be sent between processes."""
    try:
        return accuracy_of(work(cfg))
    except (BadRequest, Busy, DamagedRun) as error:
        return error
    except Exception as error:
        return as_request(error) or RunFailed.of(folder, error)


def _print_error(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
