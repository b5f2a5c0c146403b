"""A run in a process of its own, forked from one that has imported everything and touched no device."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from prunelit.interruption import SIGNALS, Interrupted
from prunelit.place import die_with

POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0
"""How long an interrupted run may take to end by itself."""

SAFE = sys.platform == "linux"
"""Whether a process may be forked once it has loaded numerical libraries: macOS' do not allow it."""


class Killed(RuntimeError):
    """A run's process died without a word: a crash in native code, or the system was out of memory."""

    def __init__(self, exitcode: int) -> None:
        name = f" ({signal.Signals(-exitcode).name})" if exitcode < 0 else ""
        how = f"killed by signal {-exitcode}{name}" if exitcode < 0 else f"ended with status {exitcode}"
        super().__init__(how)
        self.exitcode = exitcode


def in_own_process(task: Callable[[], Any], cancelled: Callable[[], bool]) -> Any:
    """Return what ``task`` returns, called in a forked process, or raise what it raised.

    The process ends when this one does. ``cancelled`` is asked all the while; if it says so, the process
    gets SIGTERM. Ctrl-C at a terminal, which reaches every process, it leaves to this one.

    Raises:
        Killed: the process was killed.
        Interrupted: the process was asked to end.
    """
    context: Any = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(task, sender, os.getpid()))
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Python warns of threads when it forks: those of numerical libraries, which know how to be forked.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    sender.close()
    try:
        told, asked = _wait(process, receiver, cancelled)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        receiver.close()
    if told is None:
        raise Interrupted(signal.SIGTERM) if asked else Killed(process.exitcode)
    returned, value = told
    if returned:
        return value
    raise value


def _wait(process: Any, receiver: Connection, cancelled: Callable[[], bool]) -> tuple[Any, bool]:
    """Return what the process sent, None if it ended without, and whether it was asked to end."""
    parent, deadline = os.getppid(), math.inf
    while True:
        try:
            if receiver.poll(POLL_SECONDS):
                return receiver.recv(), deadline < math.inf
        except EOFError:
            process.join(GRACE_SECONDS)
            return None, deadline < math.inf
        if os.getppid() != parent:  # who launched this job is gone
            process.kill()
            os._exit(1)
        if deadline == math.inf and cancelled():
            process.terminate()
            deadline = time.monotonic() + GRACE_SECONDS
        elif time.monotonic() > deadline:
            process.kill()


def _child(task: Callable[[], Any], sender: Connection, parent: int) -> None:
    """Do the task and send its outcome."""
    for number in SIGNALS:  # the handlers of the process that leads do not act for it here
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    die_with(parent)
    try:
        told = (True, task())
    except BaseException as error:
        told = (False, error)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sender.send(told)
    sender.close()
