"""The tables say what a reviewer would work out from the runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from prunelit.study.record import Record
from prunelit.study.report.records.run_files import NUMBER_FIELDS
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.blocks import blocks
from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import Tables, make_tables, problem_grid, results_grid

MakeRun = Callable[..., Record]


def tables_of(folder: Path, metric: str = "top1") -> Tables:
    return make_tables(read_study([folder]), METRICS[metric])


def texts(grid: Grid) -> list[list[str]]:
    return [[cell.text for cell in row] for row in grid.rows]


def seeds(make_run: MakeRun, pruner: str, amount: str, values: list[float], **more: object) -> None:
    for seed, top1 in enumerate(values):
        make_run(f"pruner={pruner}", amount, f"seed={seed}", top1=top1, **more)


def test_a_row_a_method_and_a_column_an_amount(make_run: MakeRun, tmp_path: Path) -> None:
    seeds(make_run, "snip", "compression=0.5", [90.0, 92.0, 94.0])
    seeds(make_run, "snip", "compression=1", [80.0, 80.0, 80.0])
    seeds(make_run, "mag", "compression=1", [70.0, 71.0, 72.0])
    make_run("pruner=none", top1=95.0, density=1.0)
    (grid,) = tables_of(tmp_path).results
    assert grid.title == "digits, fc: test accuracy, top 1, % (mean ± standard deviation over 3 seeds)"
    assert grid.header == ["method", "dense", "compression 0.5\n31.62 % kept", "compression 1\n10 % kept"]
    assert texts(grid) == [
        ["none", "95.00 (n = 1)", "–", "–"],
        ["mag", "–", "–", "71.00 ± 1.00"],
        ["snip", "–", "92.00 ± 2.00", "80.00 ± 0.00"],
    ]


def test_a_lead_beyond_the_noise_is_bold_and_one_within_is_not(make_run: MakeRun, tmp_path: Path) -> None:
    # Differences 10, 11, 10 by seed: t = 31, p = 0.001. Differences 1, 2, 0: p = 0.23, see the statistics.
    seeds(make_run, "snip", "compression=1", [90.0, 92.0, 94.0])
    seeds(make_run, "mag", "compression=1", [80.0, 81.0, 84.0])
    seeds(make_run, "snip", "compression=2", [90.0, 92.0, 94.0])
    seeds(make_run, "mag", "compression=2", [89.0, 90.0, 94.0])
    tables = tables_of(tmp_path)
    bold = [[cell.bold for cell in row[1:]] for row in tables.results[0].rows]
    assert bold == [[False, False], [True, False]]
    (comparison,) = tables.by_section["Comparisons"]
    assert texts(comparison)[1][:5] == ["compression 2", "snip", "mag", "3", "1.00"]
    assert texts(comparison)[1][6] == "0.225"


def test_less_is_better_where_it_is(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, loss in enumerate((0.50, 0.51, 0.50)):
        make_run("pruner=snip", "compression=1", f"seed={seed}", test_loss=loss)
        make_run("pruner=mag", "compression=1", f"seed={seed}", test_loss=loss - 0.2 + 0.001 * seed)
    (grid,) = tables_of(tmp_path, "test_loss").results
    assert [row[1].bold for row in grid.rows] == [True, False]


def test_one_seed_has_neither_deviation_nor_bold_nor_interval(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=1", top1=99.0)
    make_run("pruner=mag", "compression=1", top1=10.0)
    tables = tables_of(tmp_path)
    assert tables.results[0].title.endswith("(one seed)")
    assert tables.results[0].rows[1][1] == Cell("99.00")
    assert tables.by_section["95 % confidence intervals"] == []
    assert tables.by_section["Comparisons"] == []


def test_failed_and_running_runs_are_in_their_cells(make_run: MakeRun, tmp_path: Path) -> None:
    seeds(make_run, "snip", "compression=1", [90.0, 92.0])
    make_run("pruner=snip", "compression=1", "seed=2", state="failed")
    make_run("pruner=mag", "compression=1", state="failed")
    make_run("pruner=rand", "compression=1", state="running")
    (grid,) = tables_of(tmp_path).results
    assert texts(grid) == [["mag", "1 failed"], ["rand", "1 running"], ["snip", "91.00 ± 1.41 (1 failed)"]]
    assert grid.rows[0][1].tone == "bad"


def test_runs_that_share_a_seed_count_once(make_run: MakeRun, tmp_path: Path) -> None:
    for name, top1 in (("a", 90.0), ("b", 92.0)):
        make_run("pruner=snip", "compression=1", f"name={name}", top1=top1)
    make_run("pruner=snip", "compression=1", "seed=1", top1=95.0)
    (block,) = blocks(read_study([tmp_path]), METRICS["top1"])
    assert block.entries["snip", "0.1"].values == {0: 91.0, 1: 95.0}


def test_sparsity_and_compression_of_one_density_share_a_column(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=1")
    make_run("pruner=mag", "sparsity=0.9")
    (grid,) = tables_of(tmp_path).results
    assert grid.header[1:] == ["compression 1 / sparsity 0.9\n10 % kept"]


def test_a_density_that_was_missed_is_marked_and_told(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=iterative", "sparsity=0.9", top1=93.0, density=0.0985)
    make_run("pruner=mag", "sparsity=0.9", top1=94.0, density=0.1, collapsed=["fc1.weight"])
    (grid,) = tables_of(tmp_path).results
    assert texts(grid) == [["iterative", "93.00†"], ["mag", "94.00*"]]
    assert "iterative 9.85 % for 10 %" in " ".join(grid.notes)


def test_methods_that_choose_the_density_say_what_they_kept(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=std", top1=90.0, density=0.25)
    make_run("pruner=nm", top1=91.0, density=0.5)
    (grid,) = tables_of(tmp_path).results
    assert texts(grid) == [["nm", "91.00 (50 % kept)"], ["std", "90.00 (25 % kept)"]]
    assert not any(cell.bold for row in grid.rows for cell in row)


def test_data_sets_and_models_have_tables_of_their_own(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("model=mlp")
    make_run("model=fc")
    make_run("data=mnist", "model=fc")
    assert [grid.title.split(":")[0] for grid in tables_of(tmp_path).results] == [
        "digits, fc",
        "digits, mlp",
        "mnist, fc",
    ]


def test_what_went_wrong_comes_in_one_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=1", state="failed", error="no <b>memory</b>")
    for amount in ("compression=2", "compression=10", "compression=3"):
        seeds(make_run, "rand", amount, [10.0, 12.0], collapsed=["fc1.weight"])
    (make_run("pruner=mag").folder / "result.json").write_text("{")
    grid = problem_grid(read_study([tmp_path]))
    assert grid is not None
    assert [row[0] for row in texts(grid)] == ["failed", "collapsed", "skipped"]
    assert texts(grid)[0][2] == "ValueError: no <b>memory</b>"
    assert texts(grid)[1][1:] == [
        "digits, fc: rand, compression 2, 3, 10 (6 runs)",
        "nothing is kept in fc1.weight; top 1 is 10.00–12.00 %",
    ]
    assert problem_grid(read_study([make_run("pruner=snip", "seed=9").folder])) is None


def test_every_metric_has_a_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("pruner=snip", "compression=1", prune_seconds=0.5, train_seconds=3.0, test_seconds=0.25)
    study = read_study([tmp_path])
    shown = {key: results_grid(blocks(study, metric)[0]).rows[0][1].text for key, metric in METRICS.items()}
    known = {key for key in NUMBER_FIELDS if not key.startswith("asked_")}
    assert known - {"seed", "threads"} <= set(shown)
    assert shown["seconds"] == "3.75"
    assert shown["kept"] == "100"
    assert shown["test_loss"] == "n/a"
