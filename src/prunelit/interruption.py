"""Signals that ask a run to end: it saves first, and the same command goes on from that very step."""

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
"""Ctrl-C, what schedulers send before they kill, and what they may be told to send some time before that."""

BATCHES, EVALUATION, ELSEWHERE = SIGNALS, SIGNALS - {signal.SIGINT}, frozenset[signal.Signals]()
"""The signals that wait for a checkpoint: between two batches of training there will soon be one; after an
evaluation too, but a person at the keyboard would not wait so long; elsewhere none is near."""


class Interrupted(SystemExit):
    """A run was asked by a signal to end, and can be resumed; the exit status is 128 + the signal's number.

    No ``Exception``: a sweep must not take it for a failure of one run and begin the next.
    """

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(128 + number)

    def __str__(self) -> str:
        return f"interrupted by {self.signal.name}; the same command goes on from what is saved"

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int]]:
        """Pickle by the signal, so that the exception crosses process borders whole."""
        return type(self), (int(self.signal),)


PATIENCE_SECONDS, IDLE_PATIENCE_SECONDS = 15.0, 3.0
"""How long a signal waits at least for a checkpoint while a run makes no progress, or does not compute."""
IDLE_SHARE = 0.01
"""Seconds of processor time in a second below which a run does not compute: less than on a busy machine."""
PATIENCE_STEPS = 3.0
"""How many times the longest step so far it waits, if that is more."""


class RunTimedOut(RuntimeError):
    """A run took longer than it may; it can be resumed."""

    def __init__(self, minutes: float) -> None:
        super().__init__(
            f"took longer than sweep.timeout_minutes={minutes:g}; the same command goes on from what is saved"
        )
        self.minutes = minutes

    def __reduce__(self) -> tuple[type[RunTimedOut], tuple[float]]:
        """Pickle by the minutes."""
        return type(self), (self.minutes,)


class Interruption:
    """Takes ``SIGNALS`` while a run is under way, and lets it save before it ends.

        with Interruption() as interruption:
            try:
                trainer = Trainer(callbacks=[LastCheckpoint(folder, interruption)])
                trainer.fit(...)
            except Interrupted as interrupted:
                interruption.hand_over(interrupted)

    A signal that is not in ``waiting`` raises :class:`Interrupted` at once: what is saved is whole, and
    repeating what came after it gives the same bits. One that is in ``waiting`` is noted as ``asked``, and
    the callback raises :class:`Interrupted` just after it has saved. A second Ctrl-C never waits, and none
    waits for a run that hangs: one that makes no progress for ``PATIENCE_SECONDS``, and for several times its
    longest step so far, or that sleeps for ``IDLE_PATIENCE_SECONDS``.

    A signal that was ignored before stays ignored. On leaving the block the old handlers are back. Outside
    the main thread, where Python allows no handlers, nothing is done. Worker processes that inherit the
    handlers leave the decision to the run's own process.

    Attributes:
        waiting: the signals that wait for a checkpoint: ``BATCHES``, ``EVALUATION`` or ``ELSEWHERE``.
        asked: the signal that waits, None if there is none.
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
            self.take()
        return self

    def take(self) -> None:
        """Take the signals, again if a library has put its own handlers in between."""
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
        """Note that a step has ended; ``counts=False``: it does not count among the longest ones."""
        now = time.monotonic()
        if counts:
            self._longest_step = max(self._longest_step, now - self._last_progress)
        self._last_progress = now

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Let a checkpoint take as long as it takes."""
        self._saving = True
        try:
            yield
        finally:
            self._saving = False
            self.progressed(counts=False)

    def hand_over(self, interrupted: Interrupted) -> None:
        """Let the handler from before have the signal: submitit's puts the job in the queue again and exits.

        Returns if that does, as submitit's for SIGTERM: then the run may go on from what it has saved.

        Raises:
            Interrupted: there was no handler before.
        """
        number = self.asked or interrupted.signal
        before = self._before.get(number)
        self.__exit__()
        if not callable(before) or before is signal.default_int_handler:
            raise Interrupted(number)
        before(number, None)

    @contextmanager
    def sent_on_to(self, ranks: Iterable[int]) -> Iterator[None]:
        """Send signals on to the processes ``ranks``, which save together and raise :class:`Interrupted`.

        Ctrl-C, which a terminal sends to them as well, becomes SIGTERM; a second one ends all at once.
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
        """End the run if it hangs: no checkpoint will come."""
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
    """Return what ``attempt`` returns; where a signal interrupts it, the handler from before has its turn.

    ``on_interruption`` is called first. If that handler returns, another attempt is made.

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
    """Sends this process SIGTERM after ``minutes``; None, or outside the main thread: never.

    A process that then does not end within ``GRACE_SECONDS``, since it hangs in native code, ends with
    status 1.
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
        """Raise RunTimedOut if the time is over."""
        if self.expired and self.minutes is not None:
            raise RunTimedOut(self.minutes)

    def _expire(self, number: int, frame: FrameType | None) -> None:
        self.expired = True
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_IGN, signal.SIG_DFL):
            raise Interrupted(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)


def _received_by_a_worker(number: int) -> None:
    if number == signal.SIGTERM:  # from the run's own process, when it ends
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
