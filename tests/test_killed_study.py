"""A study that is killed three times and loses a job ends as an undisturbed one: `pytest -m slow`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

RUNS = 24
COMMAND = (
    *(sys.executable, "-m", "prunelit.train", "-m", "data=mnist", "pruner=snip,synflow"),
    *("compression=0.5,1,1.5,2", "seed=0,1,2", "epochs=2", "trainer=cpu", "logger=csv"),
)
MEASURED = ("prune_seconds", "train_seconds", "test_seconds", "peak_memory_bytes")
"""What differs from one time to the next."""


def start(name: str, folder: Path, data: Path) -> subprocess.Popen[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    return subprocess.Popen(
        [*COMMAND, f"data.root={data}", f"name={name}"],
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def complete(study: Path) -> int:
    return len(list(study.glob("*/result.json")))


def wait_until(done: Callable[[], bool], sweep: subprocess.Popen[str]) -> None:
    while not done():
        assert sweep.poll() is None, sweep.communicate()[0]
        time.sleep(0.05)


def child_of(pid: int) -> int | None:
    """The process that does a run, by what the kernel says of the sweep's children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def found(study: Path) -> dict[str, tuple[dict, dict[str, bytes]]]:
    """By run: what it found, and its weights and masks byte by byte."""
    runs = {}
    for path in sorted(study.glob("*/result.json")):
        result = json.loads(path.read_text())
        files = {n: (path.parent / n).read_bytes() for n in ("weights.safetensors", "masks.safetensors")}
        measured = {key for key in result if key in MEASURED or key.startswith("latency_")}
        runs[path.parent.name] = ({k: v for k, v in result.items() if k not in measured}, files)
    return runs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="finds children in /proc")
def test_it_ends_with_the_records_of_an_undisturbed_one(tmp_path: Path, real_data: Path) -> None:
    disturbed = tmp_path / "outputs" / "disturbed"
    chance = random.Random(0)
    for more in (2, 4, 3):  # killed three times, each a moment after so many more runs were complete
        sweep = start("disturbed", tmp_path, real_data)
        target = complete(disturbed) + more
        wait_until(lambda target=target: complete(disturbed) >= target, sweep)  # type: ignore[misc]
        time.sleep(chance.uniform(0, 3))
        os.kill(sweep.pid, signal.SIGKILL)
        sweep.communicate()
    assert 9 <= complete(disturbed) < RUNS

    sweep = start("disturbed", tmp_path, real_data)
    target = complete(disturbed) + 2
    wait_until(lambda: complete(disturbed) >= target, sweep)
    last = child_of(sweep.pid)
    wait_until(lambda: child_of(sweep.pid) not in (None, last), sweep)
    time.sleep(1)
    os.kill(child_of(sweep.pid) or 0, signal.SIGSEGV)  # one job is lost
    told = sweep.communicate()[0]
    assert sweep.returncode == 1, told
    assert "killed by signal 11 (SIGSEGV)" in told
    assert complete(disturbed) == RUNS - 1

    for name in ("disturbed", "whole"):
        sweep = start(name, tmp_path, real_data)
        told = sweep.communicate()[0]
        assert sweep.returncode == 0, told
    assert told.count("complete: ") == RUNS
    one, other = found(disturbed), found(tmp_path / "outputs" / "whole")
    assert len(one) == RUNS
    assert one == other
