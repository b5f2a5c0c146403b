"""Ctrl-C, SIGTERM and kill -9 of a sweep: what ends, what is left, what the same command does then."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from .conftest import statuses

SWEEP = ("-m", "model=faulty", "model.fault=none,wait,raise")
JOBLIB = ("hydra/launcher=joblib", "sweep.jobs=1")


def waits_for(path: str, seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not Path(path).exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.05)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def ends(process: int, seconds: float = 600) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not is_alive(process)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("send", "status", "more"),
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), 130, (), marks=pytest.mark.slow),
        pytest.param(lambda pid: os.kill(pid, signal.SIGTERM), 143, (), marks=pytest.mark.slow),
        pytest.param(lambda pid: os.kill(pid, signal.SIGUSR1), 138, (), marks=pytest.mark.slow),
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), 130, JOBLIB, marks=pytest.mark.slow),
        pytest.param(lambda pid: os.killpg(pid, signal.SIGTERM), 143, (), marks=pytest.mark.slow),
    ],
    ids=["ctrl-c", "sigterm", "sigusr1", "ctrl-c-joblib", "sigterm-for-all"],
)
def test_an_interrupted_sweep_ends_and_goes_on_when_it_is_asked_for_again(
    start, cli, send, status: int, more: tuple[str, ...]
) -> None:
    sweep = start(*more, *SWEEP)
    waits_for("waiting")
    child = int(Path("waiting").read_text())
    send(sweep.pid)
    out, err = sweep.communicate(timeout=600)
    assert sweep.returncode == status, err
    assert ends(child)
    assert "sweep: 1 done, 1 interrupted, 1 not started" in out
    assert "Traceback" not in err
    assert statuses() == {"model.fault=none": "complete", "model.fault=wait": "interrupted"}
    Path("faulty.py").write_text(Path("faulty.py").read_text().replace("sleep(1)", "sleep(0)"))
    status, out, _ = cli(*SWEEP)
    assert "sweep: 1 done, 1 skipped, 1 failed" in out


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)], ids=lambda n: n.name
)
def test_runs_side_by_side_save_when_every_process_is_told_to_end(start, number: signal.Signals) -> None:
    """As a terminal sends Ctrl-C, and ``timeout`` or a scheduler SIGTERM: to the jobs' processes as well."""
    sweep = start("hydra/launcher=joblib", "sweep.jobs=2", "-m", "model=faulty", "model.fault=wait,none")
    waits_for("waiting")
    child = int(Path("waiting").read_text())
    os.killpg(sweep.pid, number)
    out, err = sweep.communicate(timeout=600)
    assert sweep.returncode == 128 + number, err
    assert ends(child)
    assert "interrupted: outputs" in out
    assert "Traceback" not in err
    assert statuses()["model.fault=wait"] == "interrupted"
    assert list(Path("outputs").glob("default/*faulty*/checkpoints/last.ckpt"))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a run may outlive its sweep")
@pytest.mark.slow
@pytest.mark.parametrize("more", [(), JOBLIB], ids=["basic", "joblib"])
def test_no_run_outlives_its_sweep_and_its_lock_is_free(start, cli, more: tuple[str, ...]) -> None:
    sweep = start(*more, *SWEEP)
    waits_for("waiting")
    child = int(Path("waiting").read_text())
    sweep.kill()
    assert ends(child)
    Path("faulty.py").write_text(Path("faulty.py").read_text().replace("sleep(1)", "sleep(0)"))
    _, out, err = cli(*SWEEP)
    assert "sweep: 1 done, 1 skipped, 1 failed" in out
    assert not any("busy" in line for line in err)


@pytest.mark.slow
def test_a_second_sweep_leaves_a_run_in_progress_alone(start, cli) -> None:
    first = start("-m", "model=faulty", "model.fault=wait")
    waits_for("waiting")
    status, out, err = cli("-m", "model=faulty", "model.fault=wait,none")
    assert status == 1
    assert "sweep: 1 done, 1 elsewhere" in out
    assert err[0].startswith("busy: another process works on outputs/default/digits-faulty")
    assert first.poll() is None
