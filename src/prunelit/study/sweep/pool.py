"""Execute the runs of a sweep in processes that the leader forks, several at a time and independently."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from prunelit.interruption import Interrupted, RunTimedOut
from prunelit.request import BadRequest
from prunelit.study.devices import cores
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

Ready = Callable[[Run], None]
"""Does for a run what can be done before its turn."""

GroupJob = Callable[[Sequence[tuple[Run, int]]], Sequence[Any]]
"""Executes several runs that train together; returns for each its accuracy, or why there is none."""


@dataclass(frozen=True)
class Attempt:
    """A run in progress, or several in one process, by their numbers in the sweep.

    ``tries`` is the number of further attempts if a run fails.
    """

    numbers: tuple[int, ...]
    tries: int
    process: ForkedProcess
    began: float


@dataclass(frozen=True)
class NextRun:
    """The process of a run that gets ready while others are in progress, and waits for its turn."""

    numbers: tuple[int, ...]
    process: ForkedProcess


class Pool:
    """Executes the runs of ``sweep``, at most ``sweep.jobs`` processes at a time, one for each run or group.

    The processes are forked from this one, which has imported what they need, and end when it ends. If the
    process of a run is killed, only this run fails; the others continue. If the process of a group is killed,
    its incomplete runs go on from their last checkpoints in two smaller groups, because the memory may not
    have been enough for all of them.

    While runs are in progress and a core is left, the process of the next run already gets ready.

    Args:
        job: called in the process of each run.
        options: the node ``sweep`` of the config.
        group_job: called in the process of each group of several runs.
        ready: called in the process of a run that gets ready; None: no process does.
    """

    def __init__(
        self,
        sweep: Sweep,
        job: Job,
        options: Any,
        progress: Progress,
        group_job: GroupJob | None = None,
        ready: Ready | None = None,
    ) -> None:
        self.sweep, self.job, self.progress, self.group_job = sweep, job, progress, group_job
        self.ready = ready if sweep.jobs < cores() else None
        self._next: NextRun | None = None
        self.tries = options.retries if options.on_failure == "retry" else 0
        self.limit = options.timeout_minutes
        self.stops = options.on_failure == "stop"

    def execute(self, runs: Sequence[Run], groups: Sequence[Sequence[int]] | None = None) -> list[Any]:
        """Execute the runs; return for each its accuracy, or why there is none.

        Must be called from the main thread, because the processes end with the thread that started them.

        Args:
            runs: the runs.
            groups: the numbers of the runs that share a process; None: each run has its own.
        """
        self.runs = runs
        self.outcomes: list[Any] = [NotStarted(run.folder, "not started") for run in runs]
        self.waiting = deque(
            (tuple(group), self.tries) for group in groups or [[n] for n in range(len(runs))]
        )
        active: list[Attempt] = []
        try:
            while True:
                stopped = self.sweep.stopped
                while self.waiting and not stopped and len(active) < self.sweep.jobs:
                    active.append(self._begin(*self.waiting.popleft()))
                if not active:
                    return self.outcomes
                self._get_next_ready()
                for attempt in self._ended(active):
                    self._account(attempt)
        finally:
            for attempt in active:
                attempt.process.kill()
            if self._next is not None:
                self._next.process.kill()

    def _begin(self, numbers: tuple[int, ...], tries: int) -> Attempt:
        began, following = time.time(), self._next
        if following is not None and following.numbers == numbers:
            self._next = None
            if following.process.go():
                return Attempt(numbers, tries, following.process, began)
            following.process.kill()
        return Attempt(numbers, tries, ForkedProcess(self._task(numbers)), began)

    def _task(self, numbers: tuple[int, ...]) -> Callable[[], Sequence[Any]]:
        runs = [(self.runs[number], number) for number in numbers]

        def task() -> Sequence[Any]:
            if len(runs) > 1 and self.group_job is not None:
                return self.group_job(runs)
            return [self.job(run, number) for run, number in runs]

        return task

    def _get_next_ready(self) -> None:
        """Start the process of the next run, unless it has been started."""
        if self.ready is None or self._next is not None or not self.waiting or len(self.waiting[0][0]) > 1:
            return
        numbers, _ = self.waiting[0]
        before = partial(self.ready, self.runs[numbers[0]])
        self._next = NextRun(numbers, ForkedProcess(self._task(numbers), before))

    def _ended(self, active: list[Attempt]) -> list[Attempt]:
        """Wait a moment, and remove the attempts that have ended from ``active``."""
        wait([attempt.process.receiver for attempt in active], POLL_SECONDS)
        if self.sweep.stopped == "interrupted":
            for attempt in active:
                attempt.process.ask_to_end()
        ended = [attempt for attempt in active if attempt.process.is_over()]
        active[:] = [attempt for attempt in active if attempt not in ended]
        return ended

    def _account(self, attempt: Attempt) -> None:
        """Store the outcome of each run of an attempt that has ended; put those that go on into the queue."""
        found = self._outcomes(attempt)
        for number, outcome in found.items():
            self.outcomes[number] = outcome
            if self.stops and isinstance(outcome, (RunFailed, BadRequest)):
                self.sweep.stop("failed")
        for number, outcome in found.items():
            again = isinstance(outcome, RunFailed) and attempt.tries > 0 and not self.sweep.stopped
            if again:
                self.waiting.appendleft(((number,), attempt.tries - 1))
            self.progress.ended(self.runs[number].folder, outcome, again)

    def _outcomes(self, attempt: Attempt) -> dict[int, Any]:
        """Return the outcomes of the runs of an attempt by their numbers, without those that go on."""
        try:
            return dict(zip(attempt.numbers, attempt.process.result(), strict=True))
        except Interrupted:
            return {number: interrupted(self.runs[number].folder) for number in attempt.numbers}
        except Killed as error:
            if len(attempt.numbers) > 1 and not self.sweep.stopped:
                return self._split(attempt, error)
            # In native code no signal is handled; such a run ends with status 1 some time after its limit.
            late = self.limit and time.time() > attempt.began + 60 * self.limit
            why = RunTimedOut(self.limit) if late and error.exitcode == 1 else error
            return {number: self._killed(number, attempt, why) for number in attempt.numbers}

    def _killed(self, number: int, attempt: Attempt, why: Killed | RunTimedOut) -> float | RunFailed:
        run = self.runs[number]
        return killed(run.folder, why, attempt.began if run.rerun else 0.0)

    def _split(self, attempt: Attempt, error: Killed) -> dict[int, Any]:
        """Return the outcomes of the complete runs of a group; the others go on in two groups."""
        runs = {number: self.runs[number] for number in attempt.numbers}
        since = {number: attempt.began if run.rerun else 0.0 for number, run in runs.items()}
        ended = [number for number, run in runs.items() if is_complete(run.folder, since[number])]
        left = [number for number in attempt.numbers if number not in ended]
        half = (len(left) + 1) // 2
        for part in (left[half:], left[:half]):
            if part:
                self.waiting.appendleft((tuple(part), attempt.tries))
        print(
            f"the process of {len(attempt.numbers)} runs was {error}: its {len(left)} incomplete runs go on "
            "from their last checkpoints, in smaller groups",
            file=sys.stderr,
        )
        return {number: self._killed(number, attempt, error) for number in ended}


def interrupted(folder: Path) -> NotStarted:
    """Record that a run was interrupted, if its process had to be killed."""
    if folder.is_dir() and not Record(folder).complete:
        Record(folder).interrupt()
    return NotStarted(folder, "interrupted")


def is_complete(folder: Path, began: float = 0.0) -> bool:
    """Whether the run of ``folder`` has written its result, after the time ``began``."""
    result = folder / "result.json"
    return Record(folder).complete and (
        not began or (result.exists() and os.path.getmtime(result) >= began - 1)
    )


def killed(folder: Path, error: Killed | RunTimedOut, began: float = 0.0) -> float | RunFailed:
    """Return the outcome of a run whose process was killed, and record it if the run failed.

    A run that has written its result is complete; a run to be repeated only if it did so after ``began``.
    """
    record = Record(folder)
    if is_complete(folder, began):
        with suppress(DamagedRun):
            top1 = record.result["top1"]
            record.settle()
            return float("nan") if top1 is None else float(top1)
    if not record.complete and not is_busy(folder):
        with suppress(BadRequest):  # the folder cannot be written
            record.start()
            record.fail(error)
    return RunFailed(folder, str(error))
