"""What the death of one of PyTorch's data workers does to the process that started it."""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing.queues import Queue
from types import FrameType
from typing import Any

SOON_SECONDS = 0.01


def stop_watching_workers() -> None:
    """Let no data worker of PyTorch that dies from now on raise an error in this process.

    PyTorch's handler of SIGCHLD raises a RuntimeError wherever the main thread happens to be, also while it
    records that the run has failed. Without it, a loader still notices within seconds that a worker is dead.
    """
    if _handler_of_workers() is not None:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def raise_for_the_first_dead_worker() -> None:
    """Let only the first data worker of PyTorch that dies raise an error; called when workers are started.

    The error ends the run. Further ones would be raised while it ends, some in the destructors of loaders,
    where Python can only print them. The error is not raised while the main thread puts something into a
    queue: the lock of the queue might stay locked, and the end of the loader would wait for it forever.
    """
    handler = _handler_of_workers()
    if handler is None or hasattr(handler, "raises_once"):
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if _puts_into_a_queue(frame):
            _thread.start_new_thread(_send_again, (number,))  # threading's locks may be in use
            return
        try:
            handler(number, frame)
        except RuntimeError:
            signal.signal(number, signal.SIG_DFL)
            raise

    handle.raises_once = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handle)


def _send_again(number: int) -> None:
    time.sleep(SOON_SECONDS)
    os.kill(os.getpid(), number)


def _puts_into_a_queue(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code is Queue.put.__code__:
            return True
        frame = frame.f_back
    return False


def _handler_of_workers() -> Callable[[int, FrameType | None], Any] | None:
    """Return the handler of SIGCHLD that raises errors of data workers; None if this thread has none."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    handler: Any = signal.getsignal(signal.SIGCHLD)
    of_torch = getattr(handler, "__module__", "").startswith("torch.")
    return handler if of_torch or hasattr(handler, "raises_once") else None
