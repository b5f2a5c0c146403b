"""What a sweep does when runs fail, are killed, or are somebody else's."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from prunelit.study.lock import locked
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.preflight import sample

from .conftest import statuses

FAULTS = ("-m", "model=faulty")


def test_the_others_go_on_and_the_table_names_the_failed(cli) -> None:
    status, out, err = cli(*FAULTS, "seed=1,2", "model.fault=raise,none")
    assert status == 1
    assert "sweep: 2 done, 2 failed" in out
    failed = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert len(failed) == 2
    for line in failed:
        assert "ZeroDivisionError: no luck" in line
        traceback = Path(line[line.index("(") + 1 : -1])
        assert "in forward" in traceback.read_text()
        assert json.loads((traceback.parent / "status.json").read_text())["status"] == "failed"
    assert len(err) == 2, "one line for each failure when it happens, no traceback"


def test_once_more_skips_the_complete_and_tries_the_failed_again(cli) -> None:
    assert cli(*FAULTS, "model.fault=once,none")[0] == 1
    status, out, err = cli(*FAULTS, "model.fault=once,none")
    assert (status, err) == (0, [])
    assert out.count("complete already") == 1
    assert "sweep: 1 done, 1 skipped" in out
    status, out, _ = cli(*FAULTS, "model.fault=once,none")
    assert (status, out.count("complete already")) == (0, 2)
    assert "Launching" not in out


def test_stop_begins_no_other_run(cli) -> None:
    status, out, _ = cli(*FAULTS, "model.fault=raise,none", "seed=1,2", "sweep.on_failure=stop")
    assert status == 1
    assert "sweep: 1 failed, 3 not started" in out
    assert list(statuses().values()) == ["failed"]


def test_retry_tries_as_often_as_it_is_told(cli) -> None:
    status, out, err = cli(*FAULTS, "model.fault=once,none", "sweep.on_failure=retry")
    assert status == 0
    assert "sweep: 2 done" in out
    assert [line.endswith("(trying again)") for line in err] == [True]
    status, _, err = cli(*FAULTS, "model.fault=raise", "sweep.on_failure=retry", "sweep.retries=2")
    assert status == 1
    assert len(err) == 3


def test_a_file_that_a_run_lacks_is_its_fault_and_no_wrong_request(cli) -> None:
    status, _, err = cli(*FAULTS, "model.fault=open", "sweep.on_failure=retry")
    assert status == 1
    assert len(err) == 2
    assert err[0].endswith("No such file or directory: 'vocabulary.txt' (trying again)")


def test_a_killed_run_is_one_line_and_the_sweep_goes_on(cli) -> None:
    status, out, err = cli(*FAULTS, "model.fault=kill,none")
    assert status == 1
    assert err[0].endswith("killed by signal 9 (SIGKILL)")
    assert statuses() == {"model.fault=kill": "failed", "model.fault=none": "complete"}
    assert "sweep: 1 done, 1 failed" in out


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_runs_side_by_side_fail_alone_and_stop_together(cli, launcher: str) -> None:
    side = (f"hydra/launcher={launcher}", "sweep.jobs=1")
    status, out, _ = cli(*FAULTS, *side, "model.fault=raise,none,kill")
    assert status == 1
    assert "sweep: 1 done, 2 failed" in out
    told = {"model.fault=raise": "failed", "model.fault=none": "complete", "model.fault=kill": "failed"}
    assert statuses() == told
    if launcher == "joblib":  # in order; submitit's jobs begin as they like
        status, out, _ = cli(*FAULTS, *side, "sweep.on_failure=stop", "model.fault=raise", "seed=5,6,7")
        assert status == 1
        assert "sweep: 1 failed, 2 not started" in out


def test_without_a_process_a_run(cli) -> None:
    status, out, _ = cli(*FAULTS, "model.fault=raise,none", "sweep.isolate=false")
    assert status == 1
    assert "sweep: 1 done, 1 failed" in out


def test_a_run_of_another_process_is_left_to_it(cli) -> None:
    assert cli("-m", "seed=1,2", "epochs=0")[0] == 0
    one = sorted(Path("outputs/default").glob("*seed1*"))[0]
    with locked(one.absolute()):
        status, out, err = cli("-m", "seed=1,2,3", "epochs=0", "rerun=true")
        assert status == 1
        assert err == [f"busy: another process works on {one}"]
        assert "sweep: 2 done, 1 elsewhere" in out
        status, _, err = cli("seed=1", "epochs=0", "rerun=true")
        assert (status, err) == (1, [f"busy: another process works on {one}"])
        assert cli("seed=1", "epochs=0")[0] == 0, "it is complete: nothing is to be done"
    assert cli("seed=1", "epochs=0", "rerun=true")[0] == 0


def test_a_request_refused_by_every_run_is_a_wrong_request(cli) -> None:
    status, out, err = cli("-m", "compression=9", "seed=1,2")
    assert status == 2
    assert all(line.startswith("compression=9: ") for line in err)
    for isolate in ("true", "false"):
        stop = ("sweep.on_failure=stop", f"sweep.isolate={isolate}")
        status, out, _ = cli("-m", "checkpoint=nowhere.ckpt", "seed=1,2", *stop)
        assert status == 2
        assert "sweep: 1 failed, 1 not started" in out
    status, out, _ = cli("-m", "compression=9,1", "seed=1", "sweep.isolate=false")
    assert status == 1
    assert "sweep: 1 done, 1 failed" in out


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("pruner.schedule=linear,cubik", "pruner.schedule=cubik: "),
        ("compression=1,2,9", "compression=9: "),
        ("model=fc,vgg16", r"data\.size=8x8: .*vgg16.*\b16\b"),
        ("optimizer.lr=0.1,-1", "optimizer.lr=-1: "),
    ],
)
def test_a_run_refused_by_its_network_ends_the_sweep_before_its_first(cli, wrong: str, line: str) -> None:
    status, out, err = cli("-m", wrong, "seed=1,2", "epochs=0")
    assert (status, len(err), out) == (2, 1, "")
    assert re.match(line, err[0])
    assert not list(Path("outputs").glob("*/digits*"))


def test_few_runs_are_looked_at_ahead_and_each_value_is_among_them() -> None:
    runs = [
        Run((f"pruner={pruner}", f"optimizer.lr={lr}", f"seed={seed}"), Path(), False)
        for pruner in "abc"
        for lr in range(4)
        for seed in range(100)
    ]
    chosen = sample(runs)
    assert len(chosen) == 3 + 4 - 1
    found, asked = ({text for run in some for text in run.overrides[:2]} for some in (chosen, runs))
    assert found == asked


def test_one_run_asked_for_in_several_ways_is_done_once(cli) -> None:
    status, out, _ = cli("-m", "pruner=none", "compression=0.5,1,2", "epochs=0")
    assert status == 0
    assert "sweep: 1 done" in out
    assert out.count("complete: ") == 1


@pytest.mark.parametrize(
    ("request_", "line"),
    [
        ("sweep.on_failure=retri", r"sweep\.on_failure=retri: .*\bretry\?"),
        ("sweep.retries=-1", "sweep.retries=-1: "),
        ("sweep.jobs=0", "sweep.jobs=0: "),
        ("sweep.runs_per_gpu=17", "sweep.runs_per_gpu=17: "),
        ("sweep.checkpoint_minutes=-1", "sweep.checkpoint_minutes=-1: "),
        ("sweep.isolate=3", "sweep.isolate=3: "),
    ],
)
def test_a_wrong_wish_is_refused(cli, request_: str, line: str) -> None:
    status, _, err = cli("-m", request_, "seed=1,2")
    assert status == 2
    assert len(err) == 1
    assert re.match(line, err[0])
    assert not Path("outputs").exists()
