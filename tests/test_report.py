"""The door of a study: from folders to files, and to one line where that cannot be."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import ANY

import pandas as pd
import pytest

from prunelit import train
from prunelit.report import main

FILES = {
    *("results.csv", "results.parquet", "layers.parquet", "comparisons.csv", "literature.csv"),
    *("tables.md", "tables.tex"),
}


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five real runs, one of which failed."""
    top = tmp_path_factory.mktemp("study")
    place = [f"output_dir={top}", "name=real", "logger=none"]
    sweep = ["-m", "pruner=snip,iterative", "compression=0.1,0.2", "epochs=1", "batch_size=256"]
    assert train_with(*place, *sweep) == 0
    train_with(*place, "-m", "pruner=mag", f"checkpoint={top}/none.ckpt")
    return top


def train_with(*arguments: str) -> int:
    """Call the training program; return its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as end:
            train.main()
    return int(end.value.code or 0)


@dataclass(frozen=True)
class Written:
    """What a report on the study printed, the folder of its files, and what the study held before."""

    printed: str
    folder: Path
    before: dict[str, str]


@pytest.fixture(scope="module")
def written(study: Path) -> Written:
    """A report with everything in it, written once for several tests, where there is an old one."""
    before, out = contents(study), study / "report"
    out.mkdir()
    (out / "tables.md").write_text("old")
    (out / "mine.txt").write_text("mine")
    with redirect_stdout(io.StringIO()) as printed:
        assert main([str(study), "--published"]) == 0
    return Written(printed.getvalue(), out, before)


def test_real_runs_become_tables_and_files(study: Path, written: Written) -> None:
    assert "digits, fc: test accuracy, top 1, % (one seed)" in written.printed
    assert set(contents(written.folder)) >= FILES
    results = pd.read_parquet(written.folder / "results.parquet")
    complete = results[results["status"] == "complete"]
    assert len(complete) == 4
    assert results["status"].value_counts().to_dict() == {"complete": 4, "failed": 1}
    for row in complete.to_dict("records"):
        result = json.loads((study / row["run"] / "result.json").read_text())
        for key in ("top1", "density", "kept", "seed", "config_hash"):
            assert row[key] == result[key], key
    assert list(pd.read_csv(written.folder / "results.csv")["run"]) == list(results["run"])
    layers = pd.read_parquet(written.folder / "layers.parquet")
    assert layers.groupby("run")["kept"].sum().to_dict() == complete.set_index("run")["kept"].to_dict()


def test_the_same_records_give_the_same_bytes_and_need_no_torch(
    study: Path, written: Written, tmp_path: Path
) -> None:
    """In this process and in one in which sets have another order."""
    code = (
        "import sys; from prunelit.report import main\n"
        "assert main(sys.argv[1:]) == 0 and main(['--watch', sys.argv[1]]) == 0\n"
        "assert not {'torch', 'lightning'} & set(sys.modules)"
    )
    arguments = [str(study), "--published", "--out", str(tmp_path / "other")]
    other = "1" if os.environ.get("PYTHONHASHSEED") == "2" else "2"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": other},
    )
    assert done.returncode == 0, done.stderr
    assert {**contents(tmp_path / "other"), "mine.txt": ANY} == contents(written.folder)


def test_a_report_in_the_study_is_replaced_and_nothing_else_is(study: Path, written: Written) -> None:
    after = contents(study)
    assert {
        name: digest for name, digest in after.items() if not name.startswith("report/")
    } == written.before
    assert (written.folder / "mine.txt").read_text() == "mine"
    assert "Results" in (written.folder / "tables.md").read_text()
    assert not list(written.folder.rglob("*.tmp"))


@pytest.mark.parametrize("arguments", [["{}/empty"], ["{}/none"], ["{}/file"], ["--watch", "{}/empty"]])
def test_no_runs_are_one_line_and_status_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    assert main([argument.format(tmp_path) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(f"DIR={tmp_path}")
    assert list((tmp_path / "empty").iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [(["--metric", "top"], "--metric=top: "), (["--out", "{}/file/x"], "--out=")],
)
def test_wrong_options_are_one_line_and_status_2(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    (tmp_path / "file").touch()
    assert main([str(study), *(argument.format(tmp_path) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert captured.err.startswith(line)


def test_skipped_files_are_named_on_standard_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run\x1b[2J"
    run.mkdir()
    (run / "result.json").write_text("{")
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert [line.split(":")[0] for line in error.splitlines()] == ["skipped", f"DIR={tmp_path}"]
    assert "\x1b" not in error
