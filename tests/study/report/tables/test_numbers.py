"""Numbers of a report: rounded once, whole where they are whole, and never what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from prunelit.study.record import Record
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.files import comparisons, tidy
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import Tables, make_tables
from prunelit.study.report.tables.statistics import summarise

MakeRun = Callable[..., Record]


def tables_of(folder: Path, metric: str = "top1") -> Tables:
    return make_tables(read_study([folder]), METRICS[metric])


def test_a_spread_of_rounding_alone_is_zero() -> None:
    found = summarise([0.01499, 0.01499 * (1 + 2e-16), 0.01499 * (1 - 2e-16)])
    assert (found.sd, found.low, found.high) == (0.0, found.mean, found.mean)


@pytest.mark.parametrize(
    ("flops", "cell", "title"),
    [
        (14990.0, "14,990 ± 0", "FLOPs, sparse (mean"),
        (313_394_176.0, "313.4 ± 0.0", "FLOPs, sparse, millions (mean"),
    ],
)
def test_flops_are_whole_or_in_millions(
    make_run: MakeRun, tmp_path: Path, flops: float, cell: str, title: str
) -> None:
    for seed in range(3):
        make_run("pruner=snip", "compression=1", f"seed={seed}", flops_sparse=flops * (1 + seed * 2e-16))
    (grid,) = tables_of(tmp_path, "flops_sparse").results
    assert grid.rows[0][1].text == cell
    assert title in grid.title


def test_intervals_of_accuracies_lie_within_0_and_100(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, (top, low) in enumerate(((99.9, 0.1), (91.0, 9.0), (96.0, 0.0))):
        make_run("pruner=snip", "compression=1", f"seed={seed}", top1=top)
        make_run("pruner=mag", "compression=1", f"seed={seed}", top1=low)
    tables = tables_of(tmp_path)
    (grid,) = tables.by_section["95 % confidence intervals"]
    assert [row[0].text for row in grid.rows] == ["mag", "snip"]
    assert grid.rows[0][1].text.startswith("0.00 to ")
    assert grid.rows[1][1].text.endswith(" to 100.00 (n = 3)")
    assert comparisons(tables)[["low", "high"]].abs().to_numpy().max() <= 100


def test_the_amount_is_found_by_the_number_that_was_typed(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=0.5", compression=0.5000057)
    make_run("pruner=snip", "sparsity=0.9")
    make_run("pruner=std")
    table = tidy(read_study([tmp_path]))
    assert list(table.loc[table["asked_compression"] == 0.5, "compression"]) == [0.5000057]
    assert list(table["asked_compression"])[:2] == [0.5, 1.0]
    assert list(table["asked_sparsity"])[1] == 0.9
    assert pd.isna(list(table["asked_compression"])[2])


def test_counts_are_whole_in_files(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=1")
    table = tidy(read_study([tmp_path]))
    assert (table["kept"].iloc[0], table["flops_dense"].iloc[0]) == (100, 1000)
    assert {str(table[key].dtype) for key in ("kept", "flops_dense", "seed", "epochs")} == {"Int64"}


def test_numbers_that_could_not_be_had_are_not_shown_as_numbers(make_run: MakeRun, tmp_path: Path) -> None:
    none = dict.fromkeys(("flops_dense", "flops_sparse", "effective_density", "density", "top1"))
    make_run("pruner=snip", "compression=1", collapsed=["fc1.weight"], **none)
    make_run("pruner=std", **none)
    for metric in ("top1", "flops_sparse", "effective_density"):
        tables = tables_of(tmp_path, metric)
        texts = [cell.text for grid in tables.results for row in grid.rows for cell in row[1:]]
        assert "n/a" in texts
        assert not any("nan" in text for text in texts)
    assert tables.problems is not None
    assert tables.problems.rows[0][2].text == "nothing is kept in fc1.weight"
