"""Every file of complete runs is compared with the SHA-256 that it was written with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.report import main
from prunelit.study.record import Record

MakeRun = Callable[..., Record]


@pytest.fixture
def whole(make_run: MakeRun) -> list[Record]:
    records = [make_run("pruner=snip", f"seed={seed}") for seed in range(3)]
    for record in records[:2]:
        record.finish(record.result)
    return records


def test_whole_runs_pass(whole: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--verify", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert (out.splitlines(), err) == (
        ["verified: 3 runs intact, 0 damaged, 1 of an earlier version without files.json"],
        "",
    )


def test_a_byte_that_changed_is_found(
    whole: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = whole[1].folder / "details.npz"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    assert main(["--verify", str(tmp_path)]) == 1
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert str(whole[1].folder) in line
    assert "details.npz" in line
    assert out.startswith("verified: 2 runs intact, 1 damaged")


def test_a_folder_without_complete_runs_is_a_wrong_request(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run("pruner=snip", state="running")
    for folder in (tmp_path, tmp_path / "none"):
        assert main(["--verify", str(folder)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"DIR={folder}")
