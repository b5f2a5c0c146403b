"""What is complete is found without work, and repeated only when that is asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from prunelit.study.record import RESULT_FIELDS, Record
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.worklist import MOST_LINES, Worklist

from .conftest import QUICK

PROGRAM = """
import sys
from prunelit import train
try:
    train.main()
except SystemExit as end:
    print("status", end.code, "torch" in sys.modules)
"""


@pytest.mark.parametrize("multirun", [(), ("-m",)], ids=["run", "sweep"])
def test_a_complete_run_is_skipped_before_anything_heavy_is_imported(cli, multirun: tuple[str, ...]) -> None:
    arguments = (*multirun, "epochs=0", "seed=4")
    assert cli(*arguments)[0] == 0
    command = [sys.executable, "-c", PROGRAM, *QUICK, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, last = done.stdout.splitlines()
    assert first.startswith("complete already: outputs/default/digits-fc-mag-c0.5-seed4-")
    assert last == "status 0 False"


def test_a_repeated_run_leaves_two_whole_records(cli) -> None:
    assert cli("epochs=0")[0] == 0
    (folder,) = Path("outputs/default").glob("digits*")
    for arguments in (("epochs=0", "rerun=true"), ("-m", "epochs=0", "rerun=true")):
        assert cli(*arguments)[0] == 0
        assert (folder / ".hydra" / "config.yaml").is_file()
        assert json.loads((folder / "status.json").read_text()) == {"status": "complete"}
    assert len(list(Path("outputs/default/.previous").glob("*/result.json"))) == 2


def test_the_log_of_a_repeated_run_is_in_its_own_folder(cli) -> None:
    collapsing = ("epochs=0", "pruner.invert=true", "compression=3", "pruner=mag")
    assert cli(*collapsing)[0] == 0
    assert cli(*collapsing, "rerun=true")[0] == 0
    for log in (
        *Path("outputs/default").glob("digits*/*.log"),
        *Path("outputs/default/.previous").glob("*/*.log"),
    ):
        assert log.read_text().count("nothing is kept in") == 1
    assert len(list(Path("outputs").glob("default/digits*/train.log"))) == 1


def run(folder: Path, *overrides: str, rerun: bool = False) -> Run:
    return Run(overrides, folder, rerun)


def test_a_plan_has_each_run_once_and_skips_the_complete(tmp_path: Path, capsys) -> None:
    done = tmp_path / "done"
    done.mkdir()
    Record(done).finish(dict.fromkeys(RESULT_FIELDS, 1))
    asked = [run(tmp_path / "a", "x=1"), run(done, "x=2"), run(tmp_path / "a", "x=3"), run(tmp_path / "b")]
    work = Worklist.of(asked)
    assert [r.folder.name for r in work.todo] == ["a", "b"]
    assert [r.folder.name for r in work.complete] == ["done"]
    assert work.todo[0].overrides == ("x=1",)
    assert len(Worklist.of([asked[0], asked[0]]).todo) == 1, "the very same request twice"
    work.print_complete()
    assert capsys.readouterr().out == f"complete already: {done} (rerun=true repeats it)\n"
    assert Worklist.of([run(done, rerun=True)]).complete == []


def test_very_many_complete_runs_are_one_line(tmp_path: Path, capsys) -> None:
    Worklist([], [run(tmp_path / str(number)) for number in range(MOST_LINES + 1)]).print_complete()
    assert capsys.readouterr().out.startswith(f"complete already: {MOST_LINES + 1} runs, as in {tmp_path}")
