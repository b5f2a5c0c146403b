"""Numbers that are counted as the reports count them, and how what was run more fully is kept."""

from __future__ import annotations

import math
from pathlib import Path

import pandas as pd
import pytest

from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.grid import markdown
from prunelit.study.reproduction.cells import compare
from prunelit.study.reproduction.description import read_report, report_names
from prunelit.study.reproduction.document import Outcome, document
from prunelit.study.reproduction.requests import Request
from prunelit.study.reproduction.tables import counts, grids
from prunelit.study.reproduction.values import value_of

LAYERS = [
    # 4 filters of 3 x 3 x 3 on an 8 x 8 output, and a linear layer of 4 inputs and 10 outputs.
    {"run": "a", "layer": "conv.weight", "shape": "4x3x3x3", "total": 108, "flops_dense": 108 * 64},
    {"run": "a", "layer": "fc.weight", "shape": "10x4", "total": 40, "flops_dense": 40},
]


def study(*rows: dict) -> Study:
    known = {"status": "complete", "asked": "so", "device": "cpu", "seed": 0, "kept": 74, "prunable": 148}
    known |= {"seconds": 1.0}
    runs = pd.DataFrame([{**known, **row} for row in rows], index=[row["name"] for row in rows])
    return Study(runs, pd.DataFrame(), pd.DataFrame(), pd.DataFrame(LAYERS), [], {})


def run(name: str, pruner: str, compression: float, **more: object) -> dict:
    place = {"data": "cifar10", "model": "vgg16", "pruner": pruner, "name": name}
    density = 10**-compression
    return {**place, "asked_density": density, "density": density, "flops_sparse": 3456.0, **more}


def test_flops_have_an_operation_for_each_biased_output() -> None:
    """4 x 64 outputs of the convolution and 10 of the linear layer."""
    found = value_of(study(run("a", "mag", 0.5)), "a", "flops_millions", {})
    assert found == pytest.approx((3456 + 256 + 10) / 1e6)


def test_biases_count_as_kept() -> None:
    found = value_of(study(run("a", "mag", 0.5)), "a", "density_percent", {})
    assert found == pytest.approx(100 * (74 + 14) / (148 + 14))


def test_times_are_ratios_to_the_dense_run_of_the_seed() -> None:
    seeds = [
        run(f"d{seed}", "none", 0, seconds=seconds, seed=seed) for seed, seconds in ((0, 10.0), (1, 20.0))
    ]
    found = study(*seeds, run("a", "mag", 0.5, seconds=30.0, seed=1))
    assert value_of(found, "a", "run_seconds", {}) == 1.5
    assert math.isnan(value_of(study(run("a", "mag", 0.5, seconds=30.0)), "a", "run_seconds", {}))


def accuracies(*values: float) -> Study:
    rows = [run(f"r{seed}", "mag", 0.5, top1=value, seed=seed) for seed, value in enumerate(values)]
    return study(*rows)


def cell(cells: pd.DataFrame, table: str = "II") -> dict:
    query = f"table == '{table}' and data == 'cifar10' and method == 'mag' and setting == 'compression=0.5'"
    (found,) = cells.query(query).to_dict("records")
    return found


def test_a_cell_has_mean_interval_seeds_scale_and_device() -> None:
    report = read_report("butler2022")
    found = cell(compare(report, {"cifar10": accuracies(80.0, 81.0, 82.0)}))
    assert (found["ours"], found["n"], found["device"], found["scale"]) == (81.0, 3, "cpu", 1.0)
    assert (found["low"], found["high"]) == pytest.approx((81 - 2.484138, 81 + 2.484138))
    assert (found["verdict"], found["sweep"]) == ("agrees", "cifar10")
    assert found["difference"] == pytest.approx(0.69)
    smaller = cell(compare(report, {"cifar10": accuracies(80.0, 81.0, 82.0)}, 0.5))
    assert smaller["verdict"] == "open"


def test_other_settings_of_the_user_keep_a_number_from_agreeing() -> None:
    report = read_report("butler2022")
    studies = {"cifar10": accuracies(80.0, 81.0, 82.0)}
    for overrides, word in (
        (("epochs=1",), "open"),
        (("pruner=mag", "compression=0.5", "trainer=gpu", "data.root=images", "sweep.jobs=2"), "agrees"),
        (("pruner=exact",), "open"),
    ):
        found = cell(compare(report, studies, 1.0, Request(overrides=overrides).otherwise))
        assert found["verdict"] == word, overrides


def test_every_published_number_is_in_the_tables_whether_run_or_not() -> None:
    report = read_report("butler2022")
    cells = compare(report, {})
    assert sum(len(grid.rows) for grid in grids(report, cells)) == len(cells) == 205
    assert counts(cells) == "205 published numbers: 69 doubtful, 136 not run"


def test_what_was_run_on_more_seeds_or_at_a_larger_scale_is_kept(tmp_path: Path) -> None:
    report = read_report("butler2022")

    def outcome(scale: float, *values: float) -> Outcome:
        cells = compare(report, {"cifar10": accuracies(*values)} if values else {}, scale)
        return Outcome(cells, Outcome.read(report, tmp_path / "none").answers)

    full = outcome(1.0, 80.0, 81.0, 82.0)
    full.write(report, tmp_path)
    kept = Outcome.read(report, tmp_path)
    for newer, mean in (
        (outcome(1.0), 81.0),
        (outcome(0.5, 70.0, 70.0, 70.0), 81.0),
        (outcome(1.0, 70.0), 81.0),
        (outcome(1.0, 79.0, 80.0, 81.0), 80.0),
    ):
        assert cell(kept.joined(report, newer).cells)["ours"] == mean
    text = document([report], {report.name: kept})
    assert (
        "| mag | compression=0.5 | 80.31 | 81.00 | 78.52 to 83.48 | 3 | 1 | cpu | +0.69 | agrees"
        in text.replace("\\", "")
    )
    assert markdown(grids(report, kept.cells)[0]) in text


def test_the_page_on_published_experiments_is_what_the_command_writes() -> None:
    """``python -m prunelit.reproduce --write-docs docs/reproduction.md`` writes it."""
    docs = Path(__file__).parents[3] / "docs"
    reports = [read_report(name) for name in report_names()]
    found = {report.name: Outcome.read(report, docs / "reproduction") for report in reports}
    assert (docs / "reproduction.md").read_text() == document(reports, found)
