"""The door of a published report: real runs of a small one, compared, and gone on with."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from killed_sweeps import wait_for
from prunelit.reproduce import main
from prunelit.study.reproduction import description
from small_report import PROGRAM, SMALL, Said, call

MAG = "table == 'I' and data == 'mnist' and method == 'mag'"


@dataclass(frozen=True)
class Done:
    """A report that was run whole, then after one run was lost, then at a smaller scale."""

    folder: Path
    calls: list[Said]
    runs: list[Path]
    done_again: list[str]

    def cells(self, scale: str = "") -> pd.DataFrame:
        path = self.folder / "outputs/reproduce/small" / scale / "small.csv"
        return pd.read_csv(path, keep_default_na=False)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the description of one small report."""
    folder = tmp_path_factory.mktemp("small")
    (folder / "descriptions").mkdir()
    (folder / "descriptions" / "small.yaml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def done(small: Path) -> Done:
    """Three commands, each of which imports torch: they are given once for all tests."""
    docs = ("--write-docs", "docs/reproduction.md")
    calls = [call(small, "small", "--only", "I")]
    runs = sorted((small / "outputs/reproduce/small/accuracy").glob("*/result.json"))
    before = {run: run.stat().st_mtime_ns for run in runs}
    shutil.rmtree(runs[4].parent)
    calls.append(call(small, "small", "--only", "I", *docs))
    again = [run.parent.name for run in runs if run.stat().st_mtime_ns != before[run]]
    calls.append(call(small, "small", "--only", "I", "--scale", "0.3", "pruner=mag", *docs))
    return Done(small, calls, runs, again)


@pytest.mark.slow
def test_every_run_is_done_once_and_only_what_is_lost_is_done_again(done: Done) -> None:
    assert [said.status for said in done.calls] == [0, 0, 0]
    # The dense network has one run a seed: it knows no compression.
    assert len(done.runs) == 9
    assert done.done_again == [done.runs[4].parent.name]
    assert "1 of 9 runs left" in done.calls[1].out
    asked = json.loads((done.folder / "outputs/reproduce/small/reproduction.json").read_text())
    assert asked["scale"] == 1.0
    assert len(asked["commands"]) == 1


@pytest.mark.slow
def test_ours_stands_beside_theirs_with_a_verdict(done: Done) -> None:
    results = [json.loads(run.read_text()) for run in done.runs]
    mean = sum(result["top1"] for result in results if result["pruner"] == "mag") / 3
    (found,) = done.cells().query(MAG).to_dict("records")
    assert (found["n"], found["verdict"], found["why"]) == (3, "differs", "digits are not MNIST")
    assert float(found["ours"]) == pytest.approx(mean)
    assert float(found["difference"]) == pytest.approx(mean - 97.53)
    assert float(found["low"]) <= mean <= float(found["high"])
    # One published run of table II failed.
    assert set(done.cells().query("table == 'II'")["verdict"]) == {"not run", "doubtful"}
    assert set(done.cells().query("table == 'III'")["verdict"]) == {"doubtful"}
    assert "205 published numbers" in done.calls[0].out
    page = (done.folder / "outputs/reproduce/small/reproduction.html").read_text()
    assert "97.53" in page
    assert "How accurate?" in page


@pytest.mark.slow
def test_a_smaller_scale_is_part_of_the_record_and_agrees_with_nothing(done: Done) -> None:
    found = done.cells("scale0.3")
    run = found[found["n"].astype(int) > 0]
    assert set(run["scale"].astype(float)) == {0.3}
    assert set(run["verdict"]) == {"open"}
    assert set(run["why"]) == {"run at scale 0.3"}
    (config,) = (done.folder / "outputs/reproduce/small/scale0.3/accuracy").glob("*/.hydra/config.yaml")
    assert "limit_train_batches: 0.3" in config.read_text()
    assert "seed: 0" in config.read_text()


@pytest.mark.slow
def test_the_document_keeps_what_was_run_more_fully(done: Done) -> None:
    docs = done.folder / "docs"
    assert "**How accurate?** Not explained" in (docs / "reproduction.md").read_text()
    kept = pd.read_csv(docs / "reproduction" / "small.csv")
    (mag,) = kept.query(MAG).to_dict("records")
    assert (mag["scale"], mag["n"], mag["verdict"]) == (1.0, 3, "differs")
    assert len(kept) == len(done.cells())
    written = (docs / "reproduction.md").read_text()
    assert call(done.folder, "--write-docs", "docs/reproduction.md").status == 0
    assert (docs / "reproduction.md").read_text() == written


@pytest.mark.slow
def test_a_request_to_end_reaches_the_training_program(small: Path, tmp_path: Path) -> None:
    shutil.copytree(small / "descriptions", tmp_path / "descriptions")
    command = [sys.executable, "-c", PROGRAM, "small", "--only", "dense", "epochs=100000"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            wait_for(lambda: any(tmp_path.glob("outputs/**/train.log")), "a run")
        finally:
            process.terminate()
        # The output ends when no process is left that could write to it.
        out, _ = process.communicate(timeout=120)
    assert b"interrupted by SIGTERM" in out
    assert process.returncode == 128 + signal.SIGTERM


def test_dry_run_prints_commands_and_runs_nothing(small: Path) -> None:
    said = call(small, "small", "--dry-run", "--only", "II", "--output-dir", "other")
    lines = [line for line in said.out.splitlines() if not line.startswith("#")]
    assert said.status == 0
    assert [("pruner=none" in line, "pruner=snip" in line) for line in lines] == [
        (True, False),
        (False, True),
    ]
    assert "checkpoint=other/reproduce/small/dense/digits-fc-none" in lines[1]
    assert not list(small.glob("other/**/result.json"))


def test_epochs_are_no_override_of_what_trains_nothing(small: Path) -> None:
    said = call(small, "small", "--dry-run", "--only", "ii", "epochs=2")
    dense, onwards = [line for line in said.out.splitlines() if not line.startswith("#")]
    assert " epochs=2" in dense
    assert " epochs=0 " in onwards
    assert "epochs=2" not in onwards
    assert "epochs=2: not for onwards" in said.err


def listed(out: str) -> dict[str, list[str]]:
    """Return runs, done and left of each sweep that --list printed."""
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if "│" in line]
    return {row[0]: row[2:] for row in rows if row[0]}


@pytest.mark.slow
def test_list_says_what_is_done_and_how_long_the_rest_takes(
    done: Done, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(description, "FOLDER", done.folder / "descriptions")
    monkeypatch.chdir(done.folder)
    assert main(["--list"]) == 0
    # Runs of what was not begun are counted by the text of its overrides.
    rest = {"dense": ["1", "0", "not measured"], "onwards": ["1", "0", "not measured"]}
    assert listed(capsys.readouterr().out) == {"accuracy": ["9", "9", "–"], **rest}
    lost = done.runs[2].parent
    lost.rename(done.folder / "lost")
    try:
        assert main(["--list", "--seeds", "2"]) == 0
        assert listed(capsys.readouterr().out)["accuracy"][:2] == ["6", "6"]
        assert main(["--list"]) == 0
        runs, complete, left = listed(capsys.readouterr().out)["accuracy"]
    finally:
        (done.folder / "lost").rename(lost)
    assert (runs, complete) == ("9", "8")
    # Each of the others took less than a minute.
    assert left.startswith("about ")
    assert left.endswith(" s")


@pytest.mark.usefixtures("here")
def test_seeds_can_be_fewer_without_another_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["small", "--dry-run", "--only", "I", "--seeds", "2"]) == 0
    out = capsys.readouterr().out
    assert " seed=0,1 " in out
    assert "name=reproduce/small/accuracy" in out
    assert "of 6 runs" in out


@pytest.fixture
def here(small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "FOLDER", small / "descriptions")
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_each_run_is_done_once_and_a_lost_one_is_done_again(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["small", "--only", "I", "--seeds", "1", "pruner=none,mag"]
    outputs = tmp_path / "outputs/reproduce/small"
    assert main(command) == 0
    assert "2 of 2 runs left" in capfd.readouterr().out
    runs = sorted(outputs.glob("accuracy/*/result.json"))
    before = [run.stat().st_mtime_ns for run in runs]
    shutil.rmtree(runs[0].parent)
    assert main(command) == 0
    assert "1 of 2 runs left" in capfd.readouterr().out
    assert [run.stat().st_mtime_ns == time for run, time in zip(runs, before, strict=True)] == [False, True]
    assert sorted(outputs.glob("accuracy/*/result.json")) == runs
    asked = json.loads((outputs / "reproduction.json").read_text())
    assert (asked["scale"], len(asked["commands"])) == (1.0, 1)
    cells = pd.read_csv(outputs / "small.csv", keep_default_na=False).query(MAG)
    mean = json.loads(next(outputs.glob("accuracy/*mag*/result.json")).read_text())["top1"]
    assert cells["ours"].astype(float).tolist() == [pytest.approx(mean)]
    page = (outputs / "reproduction.html").read_text()
    assert "97.53" in page
    capfd.readouterr()
    assert main(["small", "--compare", "optimizer.lr=0.5"]) == 2, "there are runs, but none of these settings"
    assert capfd.readouterr().err.startswith("overrides=optimizer.lr=0.5: ")
    assert (outputs / "reproduction.html").read_text() == page


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing"], "NAME=nothing: "),
        (["small", "--only", "VI"], "--only=VI: "),
        (["small", "--scale", "2"], "--scale=2: "),
        (["small", "--images", "mnist=none"], "--images=mnist=none: "),
        (["small", "--images", "minst=."], "--images=minst=.: there is no data set minst"),
        (["small", "--compare", "--output-dir", "/proc/none"], "--output-dir=/proc/none: "),
        (["small", "output_dir=other"], "output_dir=other: --output-dir "),
        (["small", "data.rot=.", "--dry-run"], "data.rot="),
        (["small", "trainer=gp", "--dry-run"], "trainer=gp: "),
        (["small", "--seeds", "none"], "--seeds=none: "),
        (["small", "seed=3"], "seed=3: --seeds "),
        (["small", "epoch"], "override=epoch: "),
        (["small", "epochs=many", "--dry-run"], "epochs=many: "),
        ([], "NAME: "),
    ],
)
def test_wrong_requests_end_in_one_line(
    capfd: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(said)
