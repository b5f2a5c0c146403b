"""Which of several processes of a run this is, and how none outlives the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
import time

MARKS = ("LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Variables that mark a rank: Lightning's, torchrun's and SLURM's."""


def is_first() -> bool:
    """Whether this process is the one that writes the record: rank 0, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in MARKS)


def die_with(parent: int) -> None:
    """Let this process be killed when its parent, the process ``parent``, ends in whatever way."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGKILL))  # PR_SET_PDEATHSIG
    else:
        threading.Thread(target=_look_for, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os._exit(1)


def _look_for(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
