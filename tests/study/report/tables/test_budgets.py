"""Runs with different budgets are never averaged."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

from prunelit.study.record import Record
from prunelit.study.report.charts.tables import amounts_in_order, number_runs
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.files import write_report
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables

MakeRun = Callable[..., Record]
REQUESTS = {"flops=0.15": 46.0, "flops=0.5": 81.0, "params=0.5": 80.0, "speedup=4": 60.0, "speedup=2": 82.0}


def test_each_budget_has_a_column_in_every_table(make_run: MakeRun, tmp_path: Path) -> None:
    for request, top1 in REQUESTS.items():
        make_run("pruner=mag", request, top1=top1, density=0.5, latency_cut_1=1.0)
    make_run("pruner=mag", "latency=8ms", top1=70.0, density=0.4, latency_cut_1=1.0)
    asked = ["flops 0.5", "flops 0.15", "params 0.5", "speedup 2", "speedup 4", "latency 8"]
    tables = make_tables(read_study([tmp_path]), METRICS["top1"])
    for grid in [*tables.results, *tables.by_section["Other measurements"]]:
        assert grid.header == ["method", *asked]
    shares = ["81.00 (50 % kept)", "46.00 (50 % kept)", "80.00 (50 % kept)", "82.00 (50 % kept)"]
    (row,) = tables.results[0].rows
    assert [cell.text for cell in row] == ["mag", *shares, "60.00 (50 % kept)", "70.00 (40 % kept)"]
    (layers,) = tables.by_section["Layers"]
    assert layers.header[3:] == asked
    assert [row[1].text for row in tables.by_section["Latency"][0].rows] == asked
    assert amounts_in_order(number_runs(read_study([tmp_path]))) == asked


def test_budgets_stand_between_densities_and_what_methods_decide(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=karnin", "pruner.threshold=0.45", top1=50.0, density=0.3)
    make_run("pruner=snip", "flops=0.5", top1=60.0, density=0.5)
    make_run("pruner=snip", "compression=2", "pruner.granularity=unit", top1=40.0)
    make_run("pruner=none", "flops=0.5", top1=99.0, density=1.0)
    (grid,) = make_tables(read_study([tmp_path]), METRICS["top1"]).results
    assert grid.header[1:] == ["dense", "compression 2\n1 % kept", "flops 0.5", "by the method"]
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["none", "99.00", "–", "–", "–"],
        ["karnin", "–", "–", "–", "50.00 (30 % kept)"],
        ["snip", "–", "40.00", "60.00 (50 % kept)", "–"],
    ]


def test_a_unit_run_and_a_weight_run_have_rows_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=mag", "flops=0.5", top1=60.0, density=0.5)
    make_run("pruner=mag", "compression=1", top1=90.0)
    (grid,) = make_tables(read_study([tmp_path]), METRICS["top1"]).results
    assert [[cell.text for cell in row] for row in grid.rows] == [
        ["mag granularity=unit", "–", "60.00 (50 % kept)"],
        ["mag granularity=weight", "90.00", "–"],
    ]


def test_methods_are_compared_at_the_same_budget_only(make_run: MakeRun, tmp_path: Path) -> None:
    for seed in range(3):
        for budget, lead in (("flops=0.5", 10.0), ("flops=0.2", 20.0)):
            make_run("pruner=snip", budget, f"seed={seed}", top1=70 + lead + 0.1 * seed, density=0.5)
            make_run("pruner=mag", budget, f"seed={seed}", top1=70.0, density=0.5)
    tables = make_tables(read_study([tmp_path]), METRICS["top1"])
    (grid,) = tables.by_section["Comparisons"]
    assert [[cell.text for cell in row[:5]] for row in grid.rows] == [
        ["flops 0.5", "snip", "mag", "3", "10.10"],
        ["flops 0.2", "snip", "mag", "3", "20.10"],
    ]
    (intervals,) = tables.by_section["95 % confidence intervals"]
    assert intervals.header == ["method", "flops 0.5", "flops 0.2"]


def test_the_files_of_a_report_have_each_budget(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=mag", "flops=0.15", top1=46.0, density=0.2)
    make_run("pruner=mag", "flops=0.5", top1=81.0, density=0.5)
    study = read_study([tmp_path])
    write_report(study, make_tables(study, METRICS["top1"]), tmp_path / "report")
    for name in ("tables.md", "tables.tex"):
        text = (tmp_path / "report" / name).read_text()
        assert "by the method" not in text
        assert all(shown in text for shown in ("flops 0.15", "81.00", "46.00"))
    with (tmp_path / "report" / "results.csv").open() as file:
        assert [row["asked"] for row in csv.DictReader(file)] == ["flops 0.15", "flops 0.5"]
