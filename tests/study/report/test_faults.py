"""Whatever lies in a record's files, a report of the others is made."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.report import main
from prunelit.study.record import Record
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.files import write_report
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

MakeRun = Callable[..., Record]

NAMES = ("result.json", "status.json", "metrics.csv", "rounds.csv", "layers.csv", "details.npz")
CONFIGS = (".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml")
GARBAGE = (
    *(
        b"",
        b"\n",
        b"\x00\xff\xfe",
        b"null\n",
        b"[]",
        b"{}",
        b'"x"\n',
        b"a,b\n1\n",
        b"a,a\n1,2\n",
        b'x\n"open\n',
    ),
    *(
        b"run,epoch\n1,2\n",
        b"epoch\none\n",
        b"layer,shape,total,kept,density\nfc,2,,1,1\n",
        b"- 5\n",
        b"a: [b\n",
    ),
    *(b"pruner: 5\nseed: [1]\n", b"compression: -400\npruner: {criterion: {}, rounds: x}\n", b"[" * 5000),
)
NASTY = "\x1b[2J</td><script>alert(1)</script> | $x$ \\input{/etc}"


def make_report(folder: Path, out: Path) -> list[str]:
    study = read_study([folder])
    for run in study.runs.index:
        study.command(run)
        study.config(run)
        study.weights(run)
    write_report(study, make_tables(study, METRICS["top1"]), out)
    return study.skipped


@pytest.mark.parametrize("name", [*NAMES, *CONFIGS])
def test_a_broken_file_breaks_nothing_else(make_run: MakeRun, tmp_path: Path, name: str) -> None:
    for seed in (0, 1):
        make_run("pruner=snip", "compression=1", f"seed={seed}")
    broken = []
    for number in range(len(GARBAGE) + 3):
        path = make_run("pruner=mag", "compression=1", f"seed={number}").folder / name
        whole = path.read_bytes()
        path.write_bytes([*GARBAGE, whole[: len(whole) // 2], whole[:-1], whole + whole][number])
        broken.append(str(path.parent))
    skipped = make_report(tmp_path / "study", tmp_path / "out")
    assert all(line.startswith(tuple(broken)) for line in skipped)
    assert (name.endswith((".json", ".csv"))) == bool(skipped)
    assert re.search(r"^\| snip .*90.00 ± 0.00", (tmp_path / "out" / "tables.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("top1", "90"), ("top1", 10**400), ("seed", 1.5), ("seed", 10**30), ("kept", True)),
        *(("collapsed", [1]), ("collapsed", "fc1"), ("versions", []), ("model", "a\nb"), ("model", "\ud800")),
        *(("data", "\x1b[2J"), ("pruner", None), ("density", "inf")),
    ],
)
def test_a_result_of_other_kinds_is_left_out_and_named(
    make_run: MakeRun, tmp_path: Path, key: str, value: object
) -> None:
    record = make_run("pruner=snip")
    (record.folder / "result.json").write_text(json.dumps({**record.result, key: value}))
    (line,) = make_report(tmp_path / "study", tmp_path / "out")
    assert line.startswith(f"{record.folder / 'result.json'}: ")
    assert key in line


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999"])
def test_numbers_that_json_lacks_are_foreign(make_run: MakeRun, tmp_path: Path, value: str) -> None:
    record = make_run("pruner=snip", top1=12345.0)
    path = record.folder / "result.json"
    path.write_text(path.read_text().replace("12345.0", value))
    assert "top1" in make_report(tmp_path / "study", tmp_path / "out")[0]


def test_numbers_that_are_not_known_are_no_fault(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip", "compression=1", collapsed=["fc1.weight"])
    needed = {"pruner", "model", "data", "seed"}
    unknown = {key: value if key in needed else None for key, value in record.result.items()}
    (record.folder / "result.json").write_text(json.dumps(unknown))
    assert make_report(tmp_path / "study", tmp_path / "out") == []
    assert "| snip | n/a |" in (tmp_path / "out" / "tables.md").read_text()


def test_names_cannot_break_out_of_the_tables(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run(
        "pruner=snip", state="failed", error="\x1b[2J</td><script>alert(1)</script> | $x$ \\input{/etc}"
    )
    record.folder.rename(record.folder.with_name("a|b\x1b[31m<b>\udcff"))
    make_run("pruner=snip", "seed=1")
    make_report(tmp_path / "study", tmp_path / "out")
    for path in (tmp_path / "out").glob("tables.*"):
        text = path.read_text()
        assert "\x1b" not in text
        assert "<script>" not in text
        assert path.suffix == ".md" or "\\input" not in text
    assert "\x1b" not in (tmp_path / "out" / "results.csv").read_text()


@pytest.mark.slow
def test_the_page_and_the_pictures_are_made_too(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=1")
    for name in (*NAMES, *CONFIGS):
        for content in GARBAGE:
            (make_run("pruner=mag", "compression=1").folder / name).write_bytes(content)
    record = make_run("pruner=rand", state="failed", error=NASTY)
    record.folder.rename(record.folder.with_name("a|b\x1b[31m<b>\udcff"))
    assert main([str(tmp_path / "study"), "--out", str(tmp_path / "out")]) == 0
    assert main(["--watch", str(tmp_path / "study")]) == 0
