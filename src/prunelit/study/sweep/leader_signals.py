"""Signals that end a whole sweep: the runs in progress save and end, and no other run starts."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prunelit.interruption import SIGNALS, Interrupted
from prunelit.study.sweep.state import Sweep


class Leader:
    """Handles Ctrl-C and the signals of schedulers in the leading process of a sweep.

    Every job is notified through the sweep's folder. If runs have their own processes, only the second signal
    raises an exception here, because the launcher ends when the jobs have ended. Jobs of a cluster continue;
    only the waiting ends.
    """

    def __init__(self, sweep: Sweep) -> None:
        self.sweep, self.signum = sweep, 0

    def __call__(self, signum: int, frame: Any) -> None:
        """Handle a signal."""
        again, self.signum = bool(self.signum), signum
        if not self.sweep.cluster:
            self.sweep.stop("interrupted")
        if again or not self.sweep.isolate:
            raise Interrupted(signum)


@contextmanager
def handled_by(handler: Leader) -> Iterator[None]:
    """Install ``handler`` for SIGINT and SIGTERM in the block, and for SIGUSR1 and SIGUSR2 if they have no
    handler."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    always = (signal.SIGINT, signal.SIGTERM)
    taken = [n for n in SIGNALS if n in always or signal.getsignal(n) is signal.SIG_DFL]
    before = {number: signal.signal(number, handler) for number in taken}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)
