"""A run that hangs: it can be ended, by a signal or by its time limit, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from killed_sweeps import processes, wait_for

from .conftest import statuses

HANGS = ("model=faulty", "model.fault=hang")
SIDE_BY_SIDE = ("-m", "hydra/launcher=joblib", "seed=1,2", "sweep.jobs=2")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.mark.parametrize(
    "more", [pytest.param((), marks=pytest.mark.slow), SIDE_BY_SIDE], ids=["single", "sweep"]
)
def test_sigterm_ends_it(start, study: Path, more: tuple[str, ...]) -> None:
    program = start(*HANGS, *more)
    wait_for(Path("hanging").exists, "run that hangs")
    program.send_signal(signal.SIGTERM)
    _, err = program.communicate(timeout=600)
    assert program.returncode == 128 + signal.SIGTERM, err
    assert "Traceback" not in err
    assert set(processes(study)) <= {os.getpid()}
    assert set(statuses().values()) == {"interrupted"}


@pytest.mark.parametrize("more", [(), ("-m", "seed=1,2")], ids=["single", "sweep"])
def test_its_time_limit_ends_it_and_the_next_run_begins(cli, more: tuple[str, ...]) -> None:
    status, _, err = cli(*HANGS, "sweep.timeout_minutes=0.02", *more)
    assert status == 1
    assert len(err) == (2 if more else 1)
    assert all("took longer than sweep.timeout_minutes=0.02" in line for line in err)
    assert list(statuses().values()) == ["failed"] * len(err)


def test_a_time_limit_must_be_positive(cli) -> None:
    status, _, err = cli("sweep.timeout_minutes=0")
    assert status == 2
    assert err[0].startswith("sweep.timeout_minutes=0: ")
