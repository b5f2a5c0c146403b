"""Records become tables; what cannot be read is named and left out."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.request import BadRequest
from prunelit.study.record import RESULT_FIELDS, Record
from prunelit.study.report.records.study import read_study

MakeRun = Callable[..., Record]


def test_a_run_is_a_row_with_all_that_its_result_says(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=0.5", "seed=3", top1=81.25, collapsed=["fc1.weight"])
    study = read_study([tmp_path])
    assert list(study.runs.index) == ["study/run0001"]
    row = study.runs.iloc[0]
    assert set(RESULT_FIELDS) < set(study.runs.columns)
    assert (row["pruner"], row["seed"], row["top1"], row["collapsed"]) == ("snip", 3, 81.25, ["fc1.weight"])
    assert (row["status"], row["label"], row["asked"]) == ("complete", "snip", "compression 0.5")
    assert row["asked_density"] == pytest.approx(0.31623, abs=1e-5)
    assert math.isnan(row["test_loss"])
    assert study.epochs[["run", "epoch", "phase"]].to_numpy().tolist() == [
        ["study/run0001", 0, "train"],
        ["study/run0001", 1, "train"],
    ]
    assert list(study.layers["shape"]) == ["100", "10x10"]
    assert list(study.rounds["sparsity_after"]) == [0.9]
    assert study.skipped == []
    assert list(study.details("study/run0001")) == ["class_names"]
    assert study.weights("study/run0001") == {}
    assert study.command("study/run0001") == "python -m prunelit.train pruner=snip compression=0.5 seed=3"
    assert study.config("study/run0001")["data"]["batch_size"] == 64


def test_a_loss_that_overflowed_hides_no_curve(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip", "compression=1")
    row = {"epoch": 0, "phase": "train", "density": 0.1, "seconds": 1.0}
    record.write_metrics(
        [{**row, "test_top1": 10.0, "test_loss": loss} for loss in (2.3, math.nan, math.inf)]
    )
    study = read_study([tmp_path])
    assert study.skipped == []
    assert str(study.epochs["test_loss"].tolist()) == "[2.3, nan, inf]"


def test_runs_that_are_not_complete_say_what_is_known(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "sparsity=0.9", "seed=1", state="failed", error="no memory\nleft")
    make_run("pruner=mag", "pruner.pattern='2:4'", state="running")
    runs = read_study([tmp_path / "study"]).runs
    assert runs[["pruner", "seed", "status", "asked"]].to_numpy().tolist() == [
        ["snip", 1, "failed", "sparsity 0.9"],
        ["mag", 0, "running", "2:4"],
    ]
    assert runs["error"].tolist() == ["ValueError: no memory", None]
    assert runs["top1"].isna().all()


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("result.json", '{"pruner": "snip"', "result.json"),
        ("result.json", "[1, 2]", "contains no JSON object"),
        ("result.json", '{"weather": "rain"}', "weather"),
        ("status.json", "", "status.json"),
    ],
)
def test_a_broken_record_is_named_and_left_out(
    make_run: MakeRun, tmp_path: Path, name: str, content: str, why: str
) -> None:
    make_run("pruner=snip")
    broken = make_run("pruner=mag")
    (broken.folder / name).write_text(content)
    study = read_study([tmp_path])
    assert list(study.runs["pruner"]) == ["snip"]
    assert len(study.skipped) == 1
    assert str(broken.folder / name) in study.skipped[0]
    assert why in study.skipped[0]


@pytest.mark.parametrize("value", ["90", True, None, [1]])
def test_a_result_with_a_value_of_another_kind_is_foreign(
    make_run: MakeRun, tmp_path: Path, value: object
) -> None:
    record = make_run("pruner=snip")
    (record.folder / "result.json").write_text(json.dumps({**record.result, "seed": value}))
    study = read_study([tmp_path])
    assert len(study.runs) == 0
    assert "seed" in study.skipped[0]


def test_a_newer_record_says_which_version_wrote_it(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip")
    newer = {**record.result, "energy_joules": 5, "versions": {"prunelit": "9.1.0"}}
    (record.folder / "result.json").write_text(json.dumps(newer))
    assert "9.1.0" in read_study([tmp_path]).skipped[0]


@pytest.mark.parametrize("tail", ["3,train,50", "3,train,50.0,0.1\n", "3,train,fifty,0.1,1.5\n"])
def test_a_torn_table_is_left_out_and_its_run_stays(make_run: MakeRun, tmp_path: Path, tail: str) -> None:
    make_run("pruner=snip")
    torn = make_run("pruner=mag").folder / "metrics.csv"
    torn.write_text(torn.read_text() + tail)
    study = read_study([tmp_path])
    assert len(study.runs) == 2
    assert set(study.epochs["run"]) == {"study/run0001"}
    assert study.skipped[0].startswith(f"{torn}: ")


def test_hidden_folders_and_links_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip")
    make_run("pruner=mag").put_aside()
    (tmp_path / "study" / "loop").symlink_to(tmp_path)
    (tmp_path / "study" / "again").symlink_to(record.folder)
    (tmp_path / "study" / "nowhere").symlink_to(tmp_path / "gone")
    assert len(read_study([tmp_path, tmp_path / "study"]).runs) == 1


def test_several_folders_keep_their_names_apart(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", top="a")
    (tmp_path / "b").mkdir()
    make_run("pruner=snip", top="b/c")
    assert list(read_study([tmp_path / "a", tmp_path / "b"]).runs.index) == ["a/run0001", "b/c/run0002"]
    assert list(read_study([tmp_path / "a" / "run0001"]).runs.index) == ["run0001"]


def test_a_missing_folder_is_a_wrong_request(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=rf"^DIR={tmp_path}/none: "):
        read_study([tmp_path / "none"])


def test_a_folder_without_runs_is_an_empty_study(tmp_path: Path) -> None:
    study = read_study([tmp_path])
    assert len(study.runs) == len(study.epochs) == len(study.layers) == 0
    assert "top1" in study.runs.columns


def test_a_run_whose_process_is_gone_is_incomplete(make_run: MakeRun, tmp_path: Path) -> None:
    import socket
    import subprocess

    ended = subprocess.Popen(["true"])
    ended.wait()
    for pid in (ended.pid, os.getpid()):
        record = make_run("pruner=snip", state="running")
        state = {"status": "running", "pid": pid, "host": socket.gethostname()}
        (record.folder / "status.json").write_text(json.dumps(state))
    runs = read_study([tmp_path]).runs
    assert list(runs["status"]) == ["incomplete", "running"]
    assert list(runs["error"]) == ["its process no longer exists", None]
