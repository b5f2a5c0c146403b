"""Execute the runs of a sweep in processes that the leader forks, several at a time and independently."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from prunelit.interruption import Interrupted, RunTimedOut
from prunelit.request import BadRequest
from prunelit.study.endings import NotStarted, RunFailed
from prunelit.study.integrity import DamagedRun
from prunelit.study.lock import is_busy
from prunelit.study.record import Record
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.isolation import POLL_SECONDS, ForkedProcess, Killed
from prunelit.study.sweep.progress import Progress
from prunelit.study.sweep.state import Sweep

Job = Callable[[Run, int], Any]
"""Executes a run, given with its number in the sweep; returns its accuracy, or why there is none."""


@dataclass(frozen=True)
class Attempt:
    """A run in progress; ``tries`` is the number of further attempts if it fails."""

    run: Run
    number: int
    tries: int
    process: ForkedProcess
    began: float


class Pool:
    """Executes the runs of ``sweep``, at most ``sweep.jobs`` at a time, each in its own process.

    The processes are forked from this one, which has imported what they need, and end when it ends. If a
    process is killed, only its run fails; the others continue.

    Args:
        job: called in the process of each run.
        options: the node ``sweep`` of the config.
    """

    def __init__(self, sweep: Sweep, job: Job, options: Any, progress: Progress) -> None:
        self.sweep, self.job, self.progress = sweep, job, progress
        self.tries = options.retries if options.on_failure == "retry" else 0
        self.limit = options.timeout_minutes
        self.stops = options.on_failure == "stop"

    def execute(self, runs: Sequence[Run]) -> list[Any]:
        """Execute the runs; return for each its accuracy, or why there is none.

        Must be called from the main thread, because the processes end with the thread that started them.
        """
        outcomes: list[Any] = [NotStarted(run.folder, "not started") for run in runs]
        waiting = deque((number, self.tries) for number in range(len(runs)))
        active: list[Attempt] = []
        try:
            while True:
                stopped = self.sweep.stopped
                while waiting and not stopped and len(active) < self.sweep.jobs:
                    number, tries = waiting.popleft()
                    active.append(self._begin(runs[number], number, tries))
                if not active:
                    return outcomes
                for attempt in self._ended(active):
                    outcomes[attempt.number] = outcome = self._outcome(attempt)
                    again = isinstance(outcome, RunFailed) and attempt.tries > 0 and not self.sweep.stopped
                    if again:
                        waiting.appendleft((attempt.number, attempt.tries - 1))
                    self.progress.ended(attempt.run.folder, outcome, again)
        finally:
            for attempt in active:
                attempt.process.kill()

    def _begin(self, run: Run, number: int, tries: int) -> Attempt:
        began = time.time()
        return Attempt(run, number, tries, ForkedProcess(lambda: self.job(run, number)), began)

    def _ended(self, active: list[Attempt]) -> list[Attempt]:
        """Wait a moment, and remove the attempts that have ended from ``active``."""
        wait([attempt.process.receiver for attempt in active], POLL_SECONDS)
        if self.sweep.stopped == "interrupted":
            for attempt in active:
                attempt.process.ask_to_end()
        ended = [attempt for attempt in active if attempt.process.is_over()]
        active[:] = [attempt for attempt in active if attempt not in ended]
        return ended

    def _outcome(self, attempt: Attempt) -> Any:
        folder = attempt.run.folder
        try:
            outcome = attempt.process.result()
        except Interrupted:
            outcome = interrupted(folder)
        except Killed as error:
            # In native code no signal is handled; such a run ends with status 1 some time after its limit.
            late = self.limit and time.time() > attempt.began + 60 * self.limit
            why = RunTimedOut(self.limit) if late and error.exitcode == 1 else error
            outcome = killed(folder, why, attempt.began if attempt.run.rerun else 0.0)
        if self.stops and isinstance(outcome, (RunFailed, BadRequest)):
            self.sweep.stop("failed")
        return outcome


def interrupted(folder: Path) -> NotStarted:
    """Record that a run was interrupted, if its process had to be killed."""
    if folder.is_dir() and not Record(folder).complete:
        Record(folder).interrupt()
    return NotStarted(folder, "interrupted")


def killed(folder: Path, error: Killed | RunTimedOut, began: float = 0.0) -> float | RunFailed:
    """Return the outcome of a run whose process was killed, and record it if the run failed.

    A run that has written its result is complete; a run to be repeated only if it did so after ``began``.
    """
    record, result = Record(folder), folder / "result.json"
    if record.complete and (not began or (result.exists() and os.path.getmtime(result) >= began - 1)):
        with suppress(DamagedRun):
            top1 = record.result["top1"]
            record.settle()
            return float("nan") if top1 is None else float(top1)
    if not record.complete and not is_busy(folder):
        with suppress(BadRequest):  # the folder cannot be written
            record.start()
            record.fail(error)
    return RunFailed(folder, str(error))
