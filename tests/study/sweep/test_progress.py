"""What a running sweep prints: a line for each run, the count, the time left, the next command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from prunelit.study.endings import NotStarted, RunFailed
from prunelit.study.sweep.progress import Progress


def test_the_time_left_is_that_of_the_runs_so_far(tmp_path: Path, monkeypatch, capsys) -> None:
    """Two of six runs were complete; the others take ten seconds each."""
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    progress = Progress(complete=2, todo=4, jobs=1)
    folder, lines = tmp_path / "run", []
    failure = RunFailed(folder, "no luck")
    for outcome, again in ((90.0, False), (failure, True), (failure, False), (90.0, False), (90.0, False)):
        now[0] += 10 if not again else 0
        progress.ended(folder, outcome, again)
        lines += capsys.readouterr()
    assert [line.removeprefix(f"complete: {folder} ").strip() for line in lines if line] == [
        "(3 of 6, about 30 s left)",
        f"failed: {folder}: no luck (trying again)",
        f"failed: {folder}: no luck",
        "(5 of 6, about 10 s left)",
        "(6 of 6)",
    ]


def test_runs_that_the_user_interrupted_have_no_line(tmp_path: Path, capsys) -> None:
    progress = Progress(complete=0, todo=2, jobs=2)
    progress.ended(tmp_path, NotStarted(tmp_path, "interrupted"))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("launcher", ["basic", "joblib"])
def test_each_run_has_a_line_and_the_last_names_the_next_command(cli, launcher: str) -> None:
    assert cli("-m", "epochs=0", "seed=1", f"hydra/launcher={launcher}")[0] == 0
    status, out, err = cli("-m", "epochs=0", "seed=1,2,3", f"hydra/launcher={launcher}", "sweep.jobs=1")
    assert (status, err) == (0, [])
    first, *runs, summary, last = out.splitlines()
    assert first.startswith("complete already: ")
    run = r"complete: outputs/default/digits-\S+seed\d-\w+ top1=[\d.]+ density=0.3162"
    assert re.fullmatch(rf"{run} \(2 of 3, about \d+ s left\)", runs[0])
    assert re.fullmatch(rf"{run} \(3 of 3\)", runs[1])
    assert (len(runs), summary) == (2, "sweep: 2 done, 1 skipped")
    assert last == "next: python -m prunelit.report outputs/default"
