"""What the death of one of PyTorch's data workers does to the process that started it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


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
    where Python can only print them.
    """
    handler = _handler_of_workers()
    if handler is None or hasattr(handler, "raises_once"):
        return

    def handle(number: int, frame: FrameType | None) -> None:
        try:
            handler(number, frame)
        except RuntimeError:
            signal.signal(number, signal.SIG_DFL)
            raise

    handle.raises_once = True  # type: ignore[attr-defined]
    signal.signal(signal.SIGCHLD, handle)


def _handler_of_workers() -> Callable[[int, FrameType | None], Any] | None:
    """Return the handler of SIGCHLD that raises errors of data workers; None if this thread has none."""
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        return None
    handler: Any = signal.getsignal(signal.SIGCHLD)
    of_torch = getattr(handler, "__module__", "").startswith("torch.")
    return handler if of_torch or hasattr(handler, "raises_once") else None
