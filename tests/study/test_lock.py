"""One process a run, whatever ends it."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from prunelit.study import lock
from prunelit.study.lock import Busy, is_busy, locked
from prunelit.study.record import Record

HOLD = (
    "import sys; from pathlib import Path; from prunelit.study.lock import locked\n"
    "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
)


@pytest.fixture
def holder(tmp_path: Path):
    """A process that holds the lock of the run in ``study/run``."""
    folder = tmp_path / "study" / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process, folder
    process.kill()
    process.communicate()


def test_a_run_in_work_is_busy_until_its_process_is_killed(holder) -> None:
    process, folder = holder
    with pytest.raises(Busy, match=f"another process works on {folder}"), locked(folder):
        pass
    assert is_busy(folder)
    process.kill()
    process.wait()
    assert not is_busy(folder)
    with locked(folder):
        pass


def test_a_look_at_a_run_that_just_begins_does_not_make_it_busy(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(lock, "PATIENCE_SECONDS", 30)  # the look ends long before, on a slow machine too
    folder = tmp_path / "study" / "run"
    with locked(folder):
        pass
    look = FileLock(lock.lock_file(folder), thread_local=False)
    look.acquire()
    threading.Timer(0.1, look.release).start()
    with locked(folder):
        assert not look.is_locked


def test_a_run_put_aside_is_locked_still(holder) -> None:
    _, folder = holder
    record = Record(folder)
    record.start()
    record.put_aside()
    assert is_busy(folder)
    record.start()
    assert is_busy(folder)


def test_other_runs_are_free(holder) -> None:
    _, folder = holder
    with locked(folder.with_name("other")):
        assert is_busy(folder.with_name("other"))
    assert not is_busy(folder.with_name("third"))
    assert not folder.with_name("third").exists()
