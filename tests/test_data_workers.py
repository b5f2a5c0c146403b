"""A data worker that dies raises an error in its program, and only the first one does."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os, signal, time
import torch
from torch.utils.data import DataLoader
from prunelit.data_workers import raise_for_the_first_dead_worker, stop_watching_workers

batches = iter(DataLoader(torch.zeros(1000, 1), num_workers=2))
raise_for_the_first_dead_worker()
raise_for_the_first_dead_worker()
next(batches)
first, second = (worker.pid for worker in batches._workers)
try:
    os.kill(first, signal.SIGKILL)
    time.sleep(20)
    print("nothing raised")
except RuntimeError as error:
    print(str(first) in str(error), "DataLoader" in str(error))
os.kill(second, signal.SIGKILL)
time.sleep(1)
stop_watching_workers()
del batches
print("over")
"""


def test_only_the_first_dead_worker_raises() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["True True", "over"]
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
