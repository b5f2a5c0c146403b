"""Signals that end a run: it saves first, and repeating the command resumes from exactly this step."""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = frozenset(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)
)
"""Ctrl-C, the signal that schedulers send before they kill, and those that they can send some time before."""

BATCHES, EVALUATION, ELSEWHERE = SIGNALS, SIGNALS - {signal.SIGINT}, frozenset[signal.Signals]()
"""The signals that wait for a checkpoint. Between two training batches the next checkpoint is near. An
evaluation also ends in a checkpoint, but Ctrl-C does not wait for it. Elsewhere, no checkpoint is due."""


class Interrupted(SystemExit):
    """A signal ended a run, which can be resumed; the exit status is 128 + the number of the signal.

    Not an ``Exception``, because a sweep must not treat it as a failed run and start the next.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(128 + number)

    def __str__(self) -> str:
        return f"interrupted by {self.signal.name}; repeat the command to resume"

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        """Pickle by the signal, so that the exception can be sent between processes."""
        return type(self), (int(self.signal),)


PATIENCE_SECONDS, IDLE_PATIENCE_SECONDS = 15.0, 3.0
"""The minimum time that a signal waits for a checkpoint while a run makes no progress or does not compute."""
IDLE_SHARE = 0.01
"""Processor time per second below which a run counts as not computing; a busy machine has more."""
PATIENCE_STEPS = 3.0
"""The minimum waiting time as a multiple of the longest step so far."""


class RunTimedOut(RuntimeError):
    """A run exceeded its time limit; it can be resumed."""

    def __init__(self, minutes: float) -> None:
        super().__init__(f"took longer than sweep.timeout_minutes={minutes:g}; repeat the command to resume")
        self.minutes = minutes

    def __reduce__(self) -> tuple[type[RunTimedOut], tuple[float]]:
        """Pickle by the minutes."""
        return type(self), (self.minutes,)


class Interruption:
    """Handles ``SIGNALS`` during a run, so that the run saves before it ends.

        with Interruption() as interruption:
            try:
                trainer = Trainer(callbacks=[LastCheckpoint(folder, interruption)])
                trainer.fit(...)
            except Interrupted as interrupted:
                interruption.hand_over(interrupted)

    A signal that is not in ``waiting`` raises :class:`Interrupted` at once: the last checkpoint is complete,
    and repeating the work since then gives the same bits. A signal in ``waiting`` is stored in ``asked``, and
    the callback raises :class:`Interrupted` just after it has saved. A second Ctrl-C never waits. No signal
    waits for a run that hangs, which means that it makes no progress for ``PATIENCE_SECONDS`` and for several
    times its longest step so far, or that it uses no processor time for ``IDLE_PATIENCE_SECONDS``.

    A signal that was ignored before stays ignored. When the block ends, the old handlers are restored.
    Outside the main thread, where Python allows no handlers, nothing happens. Worker processes that inherit
    the handlers leave the decision to the main process of the run.

    Attributes:
        waiting: the signals that wait for a checkpoint: ``BATCHES``, ``EVALUATION`` or ``ELSEWHERE``.
        asked: the signal that is waiting, None if there is none.
    """

    def __init__(self) -> None:
        self.waiting: Collection[int] = ELSEWHERE
        self.asked: signal.Signals | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._process = 0
        self._ranks: list[int] = []
        self._last_progress, self._longest_step = time.monotonic(), 0.0
        self._computed = time.process_time()
        self._saving = False
        self._alarm_before: Any = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            before = {number: signal.getsignal(number) for number in SIGNALS}
            self._before = {n: h for n, h in before.items() if h not in (None, signal.SIG_IGN)}
            self._process = os.getpid()
            self.install()
        return self

    def install(self) -> None:
        """Install the handlers, again if a library has replaced them in the meantime."""
        for number in self._before:
            signal.signal(number, self._received)

    def __exit__(self, *_: object) -> None:
        if self._alarm_before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._alarm_before)
            self._alarm_before = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def progressed(self, counts: bool = True) -> None:
        """Record the end of a step; with ``counts=False`` it is not considered for the longest step."""
        now = time.monotonic()
        if counts:
            self._longest_step = max(self._longest_step, now - self._last_progress)
        self._last_progress = now

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Do not treat the writing of a checkpoint as a lack of progress."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False
            self.progressed(counts=False)

    def hand_over(self, interrupted: Interrupted) -> None:
        """Call the previous handler of the signal; submitit's handler requeues the job and exits.

        Returns if this handler returns, as submitit's does for SIGTERM: the run may then resume.

        Raises:
            Interrupted: there was no previous handler.
        """
        number = self.asked or interrupted.signal
        before = self._before.get(number)
        self.__exit__()
        if not callable(before) or before is signal.default_int_handler:
            raise Interrupted(number)
        before(number, None)

    @contextmanager
    def sent_on_to(self, ranks: Iterable[int]) -> Iterator[None]:
        """Forward signals to the processes ``ranks``, which save together and raise :class:`Interrupted`.

        Ctrl-C, which a terminal also sends to them, becomes SIGTERM; a second one ends all of them.
        """
        self._ranks = list(ranks)
        try:
            yield
        finally:
            self._ranks = []

    def _received(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            _received_by_a_worker(number)
            return
        again = self.asked is not None and number == signal.SIGINT
        self.asked = signal.Signals(number)
        if again or not (self._ranks or number in self.waiting):
            raise Interrupted(number)
        for rank in self._ranks:
            with suppress(ProcessLookupError):
                os.kill(rank, signal.SIGTERM if number == signal.SIGINT else number)
        if not self._ranks and self._alarm_before is None and hasattr(signal, "setitimer"):
            self.progressed(counts=False)
            self._computed = time.process_time()
            self._alarm_before = signal.signal(signal.SIGALRM, self._look_for_progress)
            signal.setitimer(signal.ITIMER_REAL, IDLE_PATIENCE_SECONDS)

    def _look_for_progress(self, number: int, frame: FrameType | None) -> None:
        """End the run if it hangs, because no checkpoint will be written."""
        if os.getpid() != self._process or self.asked is None:
            return
        waited = time.monotonic() - self._last_progress
        computed = time.process_time() - self._computed
        idle = waited >= IDLE_PATIENCE_SECONDS and computed < IDLE_SHARE * IDLE_PATIENCE_SECONDS
        if (idle or waited > max(PATIENCE_SECONDS, PATIENCE_STEPS * self._longest_step)) and not self._saving:
            raise Interrupted(self.asked)
        self._computed = time.process_time()
        signal.setitimer(signal.ITIMER_REAL, IDLE_PATIENCE_SECONDS)


def until_done(
    attempt: Callable[[Interruption], T], on_interruption: Callable[[], None], minutes: float | None = None
) -> T:
    """Return what ``attempt`` returns; if a signal interrupts it, call the previous handler.

    ``on_interruption`` is called first. If this handler returns, ``attempt`` is called again.

    Raises:
        RunTimedOut: the attempts took longer than ``minutes``.
    """
    limit = TimeLimit(minutes)
    while True:
        with Interruption() as interruption, limit:
            try:
                return attempt(interruption)
            except Interrupted as interrupted:
                on_interruption()
                limit.check()
                interruption.hand_over(interrupted)


class TimeLimit:
    """Sends this process SIGTERM after ``minutes``; never if it is None, or outside the main thread.

    If the process does not end within ``GRACE_SECONDS``, for example because it hangs in native code, it is
    ended with status 1.
    """

    GRACE_SECONDS = 20.0

    def __init__(self, minutes: float | None) -> None:
        self.minutes, self.expired = minutes, False
        self._before: Any = None
        self._end = math.inf if minutes is None else time.monotonic() + 60 * minutes

    def __enter__(self) -> TimeLimit:
        in_main = threading.current_thread() is threading.main_thread()
        if self.minutes is not None and in_main and hasattr(signal, "setitimer"):
            left = max(0.001, self._end - time.monotonic())
            self._before = signal.signal(signal.SIGALRM, self._expire)
            signal.setitimer(signal.ITIMER_REAL, left)
            nowhere = open(os.devnull, "w")
            self._nowhere = nowhere
            faulthandler.dump_traceback_later(left + self.GRACE_SECONDS, exit=True, file=nowhere)
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)
            faulthandler.cancel_dump_traceback_later()
            self._nowhere.close()
            self._before = None

    def check(self) -> None:
        """Raise RunTimedOut if the time limit is exceeded."""
        if self.expired and self.minutes is not None:
            raise RunTimedOut(self.minutes)

    def _expire(self, number: int, frame: FrameType | None) -> None:
        self.expired = True
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_IGN, signal.SIG_DFL):
            raise Interrupted(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def _received_by_a_worker(number: int) -> None:
    if number == signal.SIGTERM:  # from the main process of the run, when it ends
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
