"""The rank of this process, and the end of child processes with their parent."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time
from functools import cache

MARKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Variables that mark a rank: Lightning's, torchrun's and SLURM's."""

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here, not between fork and prctl


def is_first() -> bool:
    """Whether this process writes the record: rank 0, or the only process."""
    return all(os.environ.get(name, "0") == "0" for name in MARKS)


def die_with(parent: int) -> None:
    """Let this process be killed when its parent, the process ``parent``, ends for any reason.

    On Linux it is killed when the *thread* that started it ends, which should be the main thread.
    """
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    else:
        threading.Thread(target=_look_for, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


@cache
def end_forks_with_parent() -> None:
    """Let each process that this process or its children fork from now on end with its parent.

    Such processes are workers of data loaders, processes of any library, and the ranks of a run. Linux only.
    A process that is forked by another thread than the main thread is not affected, because it would end with
    this thread.
    """
    if _libc is not None:
        forks = _Forks()
        os.register_at_fork(before=forks.note, after_in_child=forks.follow_parent)


class _Forks:
    """Notes the process whose main thread is about to fork; 0 if another thread is."""

    def __init__(self) -> None:
        self.parent = 0

    def note(self) -> None:
        in_main = threading.current_thread() is threading.main_thread()
        self.parent = os.getpid() if in_main else 0

    def follow_parent(self) -> None:
        if self.parent:
            die_with(self.parent)


def _look_for(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
