"""A sweep under way, as a terminal shows it."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from prunelit.request import BadRequest
from prunelit.study.process import is_gone
from prunelit.study.record import Record
from prunelit.study.report.watch import Watched, duration, view, watch
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.state import Sweep

MakeRun = Callable[..., Record]


def shown(folder: Path, watched: Watched | None = None, later: float = 0.0) -> str:
    watched = watched or Watched()
    watched.refresh([folder])
    newest = max((path.stat().st_mtime for path in folder.rglob("metrics.csv")), default=0.0)
    screen = Console(file=io.StringIO(), width=150)
    screen.print(view(watched, newest + later))
    return str(screen.file.getvalue())  # type: ignore[attr-defined]


def epochs(record: Record, count: int) -> None:
    record.write_metrics([{"epoch": n, "test_top1": 80.0 + n, "seconds": 10.0} for n in range(count)])


def test_a_running_run_says_how_far_it_is(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip", state="running")
    record.under_way(epochs=10, device="cuda:3")
    epochs(record, 4)
    # Six epochs of 10 s are to come, and 5 s have gone by since the last one ended.
    line = next(line for line in shown(tmp_path, later=5.0).splitlines() if "run0001" in line)
    assert line.split() == ["run0001", "4", "of", "10", "83.00", "cuda:3", socket.gethostname(), "55", "s"]


def test_every_run_is_counted_once(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", top1=91.25)
    make_run("pruner=mag", state="running")
    make_run("pruner=rand", state="failed", error="out of memory")
    ended = subprocess.Popen(["true"])
    ended.wait()
    gone = make_run("pruner=snip", "seed=1", state="running")
    state = {"status": "running", "pid": ended.pid, "host": socket.gethostname()}
    (gone.folder / "status.json").write_text(json.dumps(state))
    sweep = tmp_path / "study" / ".sweep" / "1"
    sweep.mkdir(parents=True)
    (sweep / "runs.json").write_text(json.dumps({"outputs/study/run0001": [], "outputs/study/next": []}))
    text = shown(tmp_path)
    assert text.startswith("1 done, 1 running, 1 failed, 1 stopped, 1 waiting")
    assert "failed run0003: ValueError: out of memory" in text
    assert "stopped run0004: its process no longer exists" in text
    assert "done run0001: top 1 91.25 %" in text


def test_runs_that_a_killed_sweep_has_not_begun_are_not_waiting(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as killed:
        pass
    here = socket.gethostname()
    leaders = {"alive": (os.getpid(), here), "elsewhere": (killed.pid, "far"), "killed": (killed.pid, here)}
    for name, (leader, host) in leaders.items():
        study = tmp_path / "study"
        Sweep(study / ".sweep" / name, leader=leader, host=host).begin([Run((), study / name, False)])
    watched = Watched()
    watched.refresh([tmp_path])
    assert [place.name for place in watched.waiting] == ["alive", "elsewhere"]
    Sweep(study / ".sweep" / "later").begin([])
    assert {path.name for path in (study / ".sweep").iterdir()} == {"alive", "elsewhere", "later"}


def test_runs_of_one_name_in_two_studies_are_two(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip")
    listed = [tmp_path / name / "run0001" for name in ("study", "other", "third")]
    for folder in ("study/.sweep/1", "other", "third"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "study/.sweep/1/runs.json").write_text(json.dumps({str(folder): [] for folder in listed}))
    assert shown(tmp_path).startswith("1 done, 0 running, 2 waiting")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the state of a process is not told")
def test_a_process_that_ended_but_was_not_waited_for_is_gone() -> None:
    with subprocess.Popen(["true"]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone({"pid": ended.pid, "host": socket.gethostname()})
    assert not is_gone({"pid": os.getpid(), "host": socket.gethostname()})


def test_an_interrupted_run_is_said_to_go_on(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", state="running").interrupt()
    assert "stopped run0001: interrupted; repeat the command to resume" in shown(tmp_path)


def test_it_follows_what_happens(make_run: MakeRun, tmp_path: Path) -> None:
    record, watched = make_run("pruner=snip", state="running"), Watched()
    assert "0 done, 1 running" in shown(tmp_path, watched)
    record.fail(RuntimeError("late"))
    assert "RuntimeError: late" in shown(tmp_path, watched)
    record.put_aside()
    assert "0 done, 0 running" in shown(tmp_path, watched).splitlines()[0]


def test_an_error_cannot_steer_the_terminal(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", state="failed", error="\x1b[2Jgone \x9b1m [red]not red[/red]")
    text = shown(tmp_path)
    assert not {"\x1b", "\x9b"} & set(text)
    assert "[red]not red[/red]" in text


def test_half_a_record_is_named(make_run: MakeRun, tmp_path: Path) -> None:
    (make_run("pruner=snip").folder / "result.json").write_text("{")
    assert "skipped run0001: " in shown(tmp_path)


def test_a_folder_without_runs_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=rf"^DIR={tmp_path}: "):
        watch([tmp_path], once=True)
    with pytest.raises(BadRequest, match=rf"^DIR={tmp_path}/nowhere: "):
        watch([tmp_path / "nowhere"], once=True)


def test_it_waits_for_the_first_run(make_run: MakeRun, tmp_path: Path, monkeypatch, capsys) -> None:
    """Started before the sweep, whose folder does not exist yet."""

    def some_time_goes_by(seconds: float) -> None:
        if (tmp_path / "study").exists():
            raise KeyboardInterrupt
        assert "waiting for the first run" in capsys.readouterr().out
        make_run("pruner=snip", top1=91.25)

    monkeypatch.setattr("time.sleep", some_time_goes_by)
    monkeypatch.setattr("prunelit.study.report.watch.console", lambda: Console(force_terminal=True))
    with pytest.raises(KeyboardInterrupt):
        watch([tmp_path / "study"])
    assert "1 done" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (200, "3 min 20 s"), (7500, "2 h 05 min"), (86400 + 7300, "1 d 02 h")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
