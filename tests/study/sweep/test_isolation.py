"""A process a run: what comes back from it, and what ends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from prunelit.interruption import Interrupted
from prunelit.request import BadRequest
from prunelit.study.sweep import isolation
from prunelit.study.sweep.isolation import Killed, in_own_process

pytestmark = pytest.mark.skipif(not isolation.SAFE, reason="runs are not forked here")


def never() -> bool:
    return False


def raises(error: BaseException) -> None:
    raise error


def test_what_a_run_returns_and_prints_comes_back(capfd) -> None:
    def task() -> tuple[int, str]:
        print("a line")
        return os.getpid(), "x" * 1_000_000  # more than a pipe holds

    process, text = in_own_process(task, never)
    assert process != os.getpid()
    assert len(text) == 1_000_000
    assert capfd.readouterr().out == "a line\n"


def test_what_a_run_changes_stays_there() -> None:
    in_own_process(lambda: os.environ.update(CHANGED="1"), never)
    assert "CHANGED" not in os.environ


def test_a_run_does_not_act_for_the_process_that_leads() -> None:
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        assert in_own_process(lambda: signal.getsignal(signal.SIGUSR1), never) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_what_a_run_raises_comes_back_whole() -> None:
    with pytest.raises(BadRequest, match=r"^epochs=-1: .*more") as caught:
        in_own_process(lambda: raises(BadRequest("epochs", -1, "more")), never)
    assert (caught.value.key, caught.value.value) == ("epochs", -1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_run_that_is_killed(number: int) -> None:
    with pytest.raises(Killed, match=f"killed by signal {number:d} "):
        in_own_process(lambda: os.kill(os.getpid(), number), never)


def test_a_run_that_ends_without_a_word() -> None:
    with pytest.raises(Killed, match="ended with status 3"):
        in_own_process(lambda: os._exit(3), never)


def test_a_cancelled_run_may_end_by_itself() -> None:
    def task() -> None:
        signal.signal(signal.SIGTERM, lambda number, _: raises(Interrupted(number)))
        time.sleep(60)

    with pytest.raises(Interrupted):
        in_own_process(task, iter([False, False, *[True] * 1000]).__next__)


def test_a_cancelled_run_that_does_not_end_is_killed(monkeypatch) -> None:
    monkeypatch.setattr(isolation, "GRACE_SECONDS", 0.5)

    def task() -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)

    with pytest.raises(Interrupted):
        in_own_process(task, iter([*[False] * 5, *[True] * 1000]).__next__)


def test_a_run_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from pathlib import Path\n"
        "from prunelit.study.sweep.isolation import in_own_process\n"
        "def task(): Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(60)\n"
        "in_own_process(task, lambda: False)"
    )
    told = tmp_path / "child"
    parent = subprocess.Popen([sys.executable, "-c", code, str(told)])
    deadline = time.monotonic() + 600
    while not (told.exists() and told.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(told.read_text())
    parent.kill()
    parent.wait()
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()
