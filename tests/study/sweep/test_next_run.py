"""The process of the next run of a sweep, which gets ready while another run is in progress."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prunelit.study.endings import NotStarted, RunFailed
from prunelit.study.sweep import isolation, pool
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.isolation import ForkedProcess
from prunelit.study.sweep.pool import Pool
from prunelit.study.sweep.progress import Progress
from prunelit.study.sweep.state import Sweep

pytestmark = pytest.mark.skipif(not isolation.SAFE, reason="runs are not forked here")


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Any]]:
    """Execute three runs, one at a time on two cores, and return what each returned."""
    monkeypatch.setattr(pool, "cores", lambda: 2)
    runs = [Run((f"seed={seed}",), tmp_path / f"run{seed}", False) for seed in range(3)]

    def execute(job: Callable[[Run, int], Any], ready: Callable[[Run], None], **given: Any) -> list[Any]:
        options = {"on_failure": "continue", "retries": 0, "timeout_minutes": None} | given
        sweep = Sweep(tmp_path / "sweep", jobs=1, pooled=True)
        sweep.begin(runs)
        executed = Pool(sweep, job, SimpleNamespace(**options), Progress(0, 3, 1), ready=ready)
        return executed.execute(runs)

    return execute


def told(path: Path) -> str:
    """Return the text of a file, which another process is about to write."""
    while not (path.exists() and path.read_text()):
        pass
    return path.read_text()


def is_alive(process: str) -> bool:
    try:
        return Path("/proc", process, "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_it_gets_ready_during_the_run_before_and_begins_after_it(execute, tmp_path: Path) -> None:
    def ready(run: Run) -> None:
        (tmp_path / f"ready {run.folder.name}").write_text(str(os.getpid()))

    def job(run: Run, number: int) -> float:
        (tmp_path / f"begun {number}").touch()
        if number < 2:
            told(tmp_path / f"ready run{number + 1}")
            assert not (tmp_path / f"begun {number + 1}").exists()
        if number:  # in the same process
            assert (tmp_path / f"ready run{number}").read_text() == str(os.getpid())
        return float(number)

    assert execute(job, ready) == [0.0, 1.0, 2.0]


def test_what_goes_wrong_while_it_gets_ready_is_left_to_the_run(execute) -> None:
    def ready(run: Run) -> None:
        raise ValueError("not ready")

    assert execute(lambda run, number: float(number), ready) == [0.0, 1.0, 2.0]


def test_a_process_that_was_killed_while_it_got_ready_is_replaced(execute, tmp_path: Path) -> None:
    def ready(run: Run) -> None:
        (tmp_path / f"ready {run.folder.name}").write_text(str(os.getpid()))
        os.kill(os.getpid(), signal.SIGKILL)

    def job(run: Run, number: int) -> float:
        if number < 2:
            following = told(tmp_path / f"ready run{number + 1}")
            while is_alive(following):
                pass
        return float(number)

    assert execute(job, ready) == [0.0, 1.0, 2.0]


def test_a_run_that_is_tried_again_comes_before_the_one_that_is_ready(execute, tmp_path: Path) -> None:
    def job(run: Run, number: int) -> float | Exception:
        with (tmp_path / "order").open("a") as order:
            order.write(f"{number} ")
        if number == 0 and len((tmp_path / "order").read_text().split()) == 1:
            return RunFailed(run.folder, "a fault")
        return float(number)

    found = execute(job, lambda run: None, on_failure="retry", retries=1)
    assert (found, (tmp_path / "order").read_text()) == ([0.0, 1.0, 2.0], "0 0 1 2 ")


def test_it_ends_with_a_sweep_that_stops(execute, tmp_path: Path) -> None:
    def ready(run: Run) -> None:
        (tmp_path / "process").write_text(str(os.getpid()))

    def job(run: Run, number: int) -> Exception:
        told(tmp_path / "process")
        return RunFailed(run.folder, "a fault")

    found = execute(job, ready, on_failure="stop")
    assert [type(outcome) for outcome in found] == [RunFailed, NotStarted, NotStarted]
    assert not is_alive((tmp_path / "process").read_text())
    assert not (tmp_path / "run1").exists()


def test_a_process_begins_its_task_only_when_it_is_told_to(tmp_path: Path) -> None:
    later = tmp_path / "later"
    process = ForkedProcess(later.exists, before=partial((tmp_path / "ready").write_text, "ready"))
    told(tmp_path / "ready")
    later.touch()
    assert process.go()
    while not process.is_over():
        process.receiver.poll(0.1)
    assert process.result() is True
