"""Signals that ask a whole sweep to end: the runs in progress save and end, and none begins."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from prunelit.interruption import SIGNALS, Interrupted
from prunelit.study.sweep.state import Sweep


class Leader:
    """Ctrl-C, and the signals of schedulers, in the process that leads a sweep.

    Every job hears of it by the sweep's folder. Where runs have processes of their own nothing is raised
    here but for the second signal: the launcher ends by itself once the jobs have. The jobs of a cluster go
    on: only the waiting for them ends.
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
    """Let ``handler`` have SIGINT and SIGTERM inside the block; SIGUSR1 and SIGUSR2 where nobody has them."""
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
