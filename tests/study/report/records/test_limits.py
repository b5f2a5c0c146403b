"""Records from anywhere are read with limits: no file of a record hangs a report or fills its memory."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from prunelit.study.bounded import LIMITS, LONGEST_NAME
from prunelit.study.record import Record
from prunelit.study.report.page.html import write_page
from prunelit.study.report.page.vega import bundling
from prunelit.study.report.records.arrays import class_names
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.files import write_report
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

MakeRun = Callable[..., Record]

SPECIAL = ("result.json", "status.json", "metrics.csv", "layers.csv", "details.npz", "weights.safetensors")
CONFIGS = (".hydra/config.yaml", ".hydra/overrides.yaml", ".hydra/hydra.yaml")


def report(folder: Path, out: Path) -> tuple[list[str], int]:
    """Make every file of a report; return the lines on skipped files and the size of the page in bytes."""
    study = read_study([folder])
    for run in study.runs.index:
        study.command(run)
        study.config(run)
        study.weights(run)
        study.details(run)
    tables = make_tables(study, METRICS["top1"])
    with bundling() as script:
        write_report(study, tables, out)
        (page,) = (path for path in write_page(study, tables, out, script) if path.suffix == ".html")
    return study.skipped, page.stat().st_size


@pytest.mark.parametrize("kind", ["pipe", "device", "folder"])
@pytest.mark.parametrize("name", [*SPECIAL, *CONFIGS])
def test_what_is_no_regular_file_is_not_waited_for(
    make_run: MakeRun, tmp_path: Path, name: str, kind: str
) -> None:
    make_run("pruner=snip", "compression=1")
    path = make_run("pruner=mag", "compression=1").folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    study = read_study([tmp_path / "study"])
    for run in study.runs.index:
        study.command(run)
        study.config(run)
        assert dict(study.weights(run)) == {}
        assert set(study.details(run)) <= {"class_names"}
    assert name in CONFIGS or name in ("details.npz", "weights.safetensors") or name in study.skipped[0]
    assert "snip" in set(study.runs["pruner"])


def test_aliases_that_stand_for_a_billion_values_are_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip", "compression=1")
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    (record.folder / ".hydra" / "config.yaml").write_text("\n".join(lines))
    study = read_study([tmp_path / "study"])
    assert study.configs["run0001"] == {}
    assert study.complete["top1"].tolist() == [90.0]


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(f"k{n}: {n}" for n in range(30_000)),
        f"y: &y {'y' * 100_000}\nz: [{'*y, ' * 50}]",
        "z: 0x" + "f" * 20_000,
        "z: 1" + ":59" * 2_000,
    ],
    ids=["many", "aliases of a text", "hexadecimal", "sexagesimal"],
)
def test_configs_of_too_many_or_too_large_values_are_left_out(
    make_run: MakeRun, tmp_path: Path, content: str
) -> None:
    make_run("pruner=snip", "compression=1")
    config = make_run("pruner=mag", "compression=1").folder / ".hydra" / "config.yaml"
    config.write_text(f"{config.read_text()}\n{content}\n")
    study = read_study([tmp_path / "study"])
    assert study.configs["run0002"] == {}
    assert study.complete["label"].tolist() == ["snip", "mag"]


@pytest.mark.parametrize("levels", [60, 400, 900, 10_000])
def test_deeply_nested_values_are_left_out(make_run: MakeRun, tmp_path: Path, levels: int) -> None:
    make_run("pruner=snip", "compression=1")
    config = make_run("pruner=mag", "compression=1").folder / ".hydra" / "config.yaml"
    config.write_text(f"{config.read_text()}\ndeep: {'{a: ' * levels}1{'}' * levels}\n")
    result = make_run("pruner=rand", "compression=1").folder / "result.json"
    result.write_text(f'{{"versions": {"[" * levels}{"]" * levels}}}')
    study = read_study([tmp_path / "study"])
    assert [line.split(": ")[0] for line in study.skipped] == [str(result)]
    assert study.configs["run0002"] == {}
    assert make_tables(study, METRICS["top1"]).results


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("density", 5), ("sparsity", -0.5), ("top1", -1e300), ("top1", 101), ("seed", -1), ("kept", -3)),
        *(
            ("epochs", -1),
            ("epochs", 2**63 - 1),
            ("seed", 2**53 + 1),
            ("flops_dense", -1),
            ("train_seconds", -0.1),
            ("compression", -1),
        ),
        *(("model", "m" * 10**6), ("collapsed", ["layer" * 10**5]), ("collapsed", ["a"] * 10**5)),
    ],
)
def test_numbers_and_names_that_cannot_be_are_not_believed(
    make_run: MakeRun, tmp_path: Path, key: str, value: object
) -> None:
    make_run("pruner=snip", "compression=1")
    record = make_run("pruner=mag", "compression=1")
    (record.folder / "result.json").write_text(json.dumps({**record.result, key: value}))
    study = read_study([tmp_path / "study"])
    assert study.runs["pruner"].tolist() == ["snip"]
    (line,) = study.skipped
    assert key in line
    assert len(line) < 400


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("overrides.yaml", "5"),
        ("overrides.yaml", "[" * 5000),
        ("hydra.yaml", f"command-line: {'[' * 5000}{']' * 5000}"),
        ("hydra.yaml", "command-line: 5"),
    ],
)
def test_a_command_that_cannot_be_read_is_not_known(
    make_run: MakeRun, tmp_path: Path, name: str, content: str
) -> None:
    (make_run("pruner=snip", "compression=1").folder / ".hydra" / name).write_text(content)
    assert read_study([tmp_path / "study"]).command("run0001") == ""


@pytest.mark.parametrize(
    "level",
    ["{name}: ${{{before}}}${{{before}}}", "{name}: {{a: '${{{before}}}', b: '${{{before}}}'}}"],
    ids=["texts", "mappings"],
)
def test_interpolations_that_stand_for_a_billion_values_stay_as_they_are(
    make_run: MakeRun, tmp_path: Path, level: str
) -> None:
    config = make_run("pruner=snip", "compression=1").folder / ".hydra" / "config.yaml"
    lines = [level.format(name=f"i{n}", before=f"i{n - 1}") for n in range(1, 31)]
    config.write_text("\n".join([config.read_text(), "i0: x", *lines]))
    study = read_study([tmp_path / "study"])
    assert "${i29}" in str(study.config("run0001")["i30"])


def test_interpolations_of_a_run_are_resolved(make_run: MakeRun, tmp_path: Path) -> None:
    config = make_run("pruner=snip", "compression=1", "seed=3").folder / ".hydra" / "config.yaml"
    config.write_text(f"{config.read_text()}\nboth: ${{seed}}${{seed}}\n")
    assert read_study([tmp_path / "study"]).config("run0001")["both"] == "33"


def test_names_of_a_million_characters_do_not_swell_the_page(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=mag", "compression=1", state="running")
    config = record.folder / ".hydra" / "config.yaml"
    config.write_text(config.read_text().replace("name: fc", f"name: {'f' * 10**6}"))
    layers = record.folder / "layers.csv"
    layers.write_text(f"layer,shape,total,kept,density\n{'fc' * 10**6},1,1,1,1.0\n")
    skipped, size = report(tmp_path / "study", tmp_path / "out")
    assert len(skipped) == 1
    assert size < 2_000_000  # most of which is the code that draws


def test_arrays_that_unpack_to_more_than_the_limit_are_left_out(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = make_run("pruner=snip", "compression=1")
    record.write_details({"zeros": np.zeros(10**6)})
    monkeypatch.setitem(LIMITS, ".npz", 10**6)
    assert (record.folder / "details.npz").stat().st_size < 10**6
    assert not read_study([tmp_path / "study"]).details("run0001")


def test_a_result_that_was_changed_afterwards_is_not_believed(tmp_path: Path, make_run: MakeRun) -> None:
    record = make_run("pruner=snip", "compression=1")
    record.finish(record.result)
    path = record.folder / "result.json"
    path.write_text(path.read_text().replace('"top1": 90.0', '"top1": 99.0'))
    study = read_study([tmp_path / "study"])
    assert study.runs.empty
    assert "SHA-256" in study.skipped[0]


def test_a_table_of_too_many_rows_is_left_out(make_run: MakeRun, tmp_path: Path) -> None:
    path = make_run("pruner=snip", "compression=1").folder / "rounds.csv"
    path.write_text("round,sparsity_after\n" + "1,0.5\n" * 60_000)
    study = read_study([tmp_path / "study"])
    assert study.rounds.empty
    assert study.skipped == [f"{path}: more than 50,000 rows"]


def test_long_class_names_are_cut_and_too_many_are_none() -> None:
    assert class_names({"class_names": np.array(["c" * 10**5, "d"])}) == ("c" * LONGEST_NAME, "d")
    assert class_names({"class_names": np.zeros(10**6, "U1")}) == class_names({}) == ()
    assert class_names({"class_names": np.zeros(3)}) == ()


def test_arrays_that_are_whole_are_read(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("pruner=snip", "compression=1")
    record.write_details({"class_names": np.array(["a"]), "confusion/test": np.eye(2)})
    assert np.array_equal(read_study([tmp_path / "study"]).details("run0001")["confusion/test"], np.eye(2))
