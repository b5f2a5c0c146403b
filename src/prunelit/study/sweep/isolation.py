"""A run in its own process, forked from a process that has imported everything and used no device."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from multiprocessing.connection import Connection
from typing import Any

from prunelit.data_workers import stop_watching_workers
from prunelit.interruption import SIGNALS, Interrupted
from prunelit.place import die_with, end_forks_with_parent

POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0
"""Seconds that an interrupted run may take to end before it is killed."""

SAFE = sys.platform == "linux"
"""Whether a process may be forked after loading numerical libraries; on macOS it may not."""


class Killed(RuntimeError):
    """The process of a run ended without a result: a crash in native code, or no memory was left."""

    def __init__(self, exitcode: int) -> None:
        name = f" ({signal.Signals(-exitcode).name})" if exitcode < 0 else ""
        how = f"killed by signal {-exitcode}{name}" if exitcode < 0 else f"ended with status {exitcode}"
        super().__init__(how)
        self.exitcode = exitcode


class ForkedProcess:
    """Calls ``task`` in a forked process, which is killed when this process ends for any reason.

    It ignores Ctrl-C in a terminal, which reaches every process; this process decides.

    Args:
        task: returns the result of the process.
        before: called first; the task then waits for :meth:`go`. None: the task is called at once.

    Attributes:
        receiver: becomes readable when the process has a result, for ``multiprocessing.connection.wait``.
    """

    def __init__(self, task: Callable[[], Any], before: Callable[[], None] | None = None) -> None:
        context: Any = multiprocessing.get_context("fork")
        self.receiver, sender = context.Pipe(duplex=False)
        gate, self._gate = context.Pipe(duplex=False)
        self._process = context.Process(target=_child, args=(task, sender, os.getpid(), before, gate))
        self._deadline = math.inf
        self._sent: tuple[bool, Any] | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal just after the fork is blocked until the handlers of this process are removed there.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            with warnings.catch_warnings():
                # Python warns about threads at a fork; the threads of numerical libraries allow it.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        sender.close()
        gate.close()

    def go(self) -> bool:
        """Let the task begin; return False if the process has ended instead of waiting for this."""
        try:
            self._gate.send(None)
        except OSError:
            return False
        self._gate.close()
        return True

    def ask_to_end(self) -> None:
        """Send SIGTERM, once; :meth:`is_over` kills the process if it does not end in ``GRACE_SECONDS``."""
        if self._deadline == math.inf:
            self._deadline = time.monotonic() + GRACE_SECONDS
            self._process.terminate()

    def is_over(self) -> bool:
        """Whether there is a result, or the process has ended without one."""
        if self._sent is not None:
            return True
        alive = (
            self._process.is_alive()
        )  # read first: a result that was sent before the end is then in the pipe
        try:
            if self.receiver.poll():
                self._sent = self.receiver.recv()
                return True
        except (EOFError, OSError):  # it was killed before or while it sent its result
            alive = False
        if alive and time.monotonic() > self._deadline:
            self._process.kill()
        return not alive

    def result(self) -> Any:
        """Return what the task returned, once :meth:`is_over`, or raise what it raised.

        Raises:
            Killed: the process ended without a result.
            Interrupted: the process was asked to end.
        """
        if self._sent is None:
            self._process.join(GRACE_SECONDS)
            self.kill()
            raise Interrupted(signal.SIGTERM) if self._deadline < math.inf else Killed(self._process.exitcode)
        # The process has nothing left to do. Its memory takes a while to be freed, which is not waited for.
        self._process.kill()
        self._close()
        returned, value = self._sent
        if returned:
            return value
        raise value

    def kill(self) -> None:
        """End the process if it has not ended, and wait for it."""
        self._process.kill()
        self._process.join()
        self._close()

    def _close(self) -> None:
        self.receiver.close()
        self._gate.close()


def in_own_process(task: Callable[[], Any], cancelled: Callable[[], bool]) -> Any:
    """Return what ``task`` returns, called in a forked process, or raise what it raised.

    The process ends when this one does. ``cancelled`` is called repeatedly; once it returns True, the
    process gets SIGTERM.

    Raises:
        Killed: the process was killed.
        Interrupted: the process was asked to end.
    """
    parent = _first_parent()
    process = ForkedProcess(task)
    try:
        while not process.is_over():
            process.receiver.poll(POLL_SECONDS)
            if os.getppid() != parent:  # the process that launched this job has ended
                process.kill()
                os._exit(1)
            if cancelled():
                process.ask_to_end()
        return process.result()
    finally:
        process.kill()


@cache
def _first_parent() -> int:
    """Return the parent of this process at its first run; another parent later means that it has ended."""
    return os.getppid()


def _child(
    task: Callable[[], Any],
    sender: Connection,
    parent: int,
    before: Callable[[], None] | None,
    gate: Connection,
) -> None:
    """Do the task and send its outcome; with ``before``, first do this and wait for a message."""
    die_with(parent)
    end_forks_with_parent()
    for number in SIGNALS:  # the handlers of the leading process must not act here
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    if before is not None:
        # The task itself reports what is wrong.
        with warnings.catch_warnings(), suppress(Exception, SystemExit):
            warnings.simplefilter("ignore")
            before()
        try:
            gate.recv()
        except EOFError:  # the leading process has ended
            os._exit(1)
    try:
        outcome = (True, task())
    except BaseException as error:
        outcome = (False, error)
    stop_watching_workers()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send(outcome)
    sender.close()
