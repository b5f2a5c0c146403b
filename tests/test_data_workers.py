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


DIES_WHILE_A_BATCH_IS_ASKED_FOR = """
import os, signal, time
import torch
from torch.utils.data import DataLoader
from prunelit.data_workers import raise_for_the_first_dead_worker

batches = iter(DataLoader(torch.zeros(1000, 1), num_workers=1))
raise_for_the_first_dead_worker()
next(batches)
asked = batches._index_queues[0]

def notify():
    os.kill(batches._workers[0].pid, signal.SIGKILL)
    time.sleep(2)

asked._notempty.notify = notify
try:
    asked.put(None)
    print("asked")
    time.sleep(20)
except RuntimeError as error:
    with asked._notempty:
        print("DataLoader" in str(error))
"""


def test_the_error_waits_until_the_queue_of_the_worker_is_unlocked() -> None:
    command = [sys.executable, "-c", DIES_WHILE_A_BATCH_IS_ASKED_FOR]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["asked", "True"]
