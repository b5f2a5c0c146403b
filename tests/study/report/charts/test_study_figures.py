"""The tables behind the figures, against numbers by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from large_study import large_study
from prunelit.study.report.charts.run_arrays import first_shown, shown_in_detail
from prunelit.study.report.charts.study_figures import draw_study, tidy
from prunelit.study.report.charts.tables import joined, number_runs
from prunelit.study.report.figures import all_figures
from prunelit.study.report.page.html import packed
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables


def test_pictures_are_of_the_first_seed_of_each_method_and_amount(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    for seed in (1, 0):
        for compression in (0.5, 1.0, 2.0):
            make_run("pruner=snip", f"seed={seed}", f"compression={compression}")
    make_run("pruner=mag", "seed=3", "compression=1", state="failed")
    runs = tidy(read_study([tmp_path]), all_figures())["runs"]
    shown = runs.set_index("run").loc[shown_in_detail(runs)]
    assert set(zip(shown["asked"], shown["seed"], strict=True)) == {
        ("compression 0.5", 0),
        ("compression 1", 0),
        ("compression 2", 0),
    }
    assert runs.set_index("run").loc[first_shown(runs), "asked"].tolist() == ["compression 1"]


def test_every_network_has_pictures_of_its_runs() -> None:
    """Also where networks and methods are more than the pictures that the page has room for."""
    study = large_study(networks=7)
    runs = number_runs(study)
    shown = runs.set_index("run").loc[shown_in_detail(runs)]
    assert set(shown.groupby("setting").size()) == {6, 7}
    assert shown.groupby(["setting", "method"]).size().max() == 1


def test_pictures_of_many_networks_show_what_the_page_opens_with() -> None:
    drawn = draw_study(large_study(networks=4, seeds=1), all_figures())
    figures = {figure.name: figure for figure in drawn.all}
    rows, left_out = drawn.opening_rows(figures["accuracy_by_compression"])
    assert set(rows["setting"]) == {"vgg0 on cifar10"}
    assert left_out == "vgg0 on cifar10; report.html has 3 more networks or data sets"
    drawn = draw_study(large_study(networks=2, seeds=1), all_figures())
    figures = {figure.name: figure for figure in drawn.all}
    rows, left_out = drawn.opening_rows(figures["density_by_layer"])
    assert rows["method_panel"].nunique() == 12
    assert left_out == "12 of 24 panels; report.html has the others"
    assert drawn.opening_rows(figures["accuracy_by_compression"])[1] == ""


def test_a_pruned_network_that_trains_on_is_not_dense(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    make_run("pruner=none", "seed=0", density=1.0, compression=0.0, top1=95.0)
    make_run("pruner=none", "seed=0", "checkpoint=first", density=0.1, compression=1.0, top1=90.0)
    make_run("pruner=mag", "seed=0", "compression=1", top1=80.0)
    study = read_study([tmp_path])
    runs = number_runs(study)
    assert dict(zip(runs["method"], runs["dense"], strict=True)) == {
        "none": True,
        "pruned checkpoint": False,
        "mag": False,
    }
    layers = tidy(study, all_figures())["layers"]
    assert set(layers["run"]) == set(runs.loc[~runs["dense"], "run"])
    (table,) = make_tables(study, METRICS["top1"]).results
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["none", "95.00", "–"],
        ["mag", "–", "80.00"],
        ["pruned checkpoint", "–", "90.00"],
    ]
    assert table.header[2] == "as in the checkpoint / compression 1\n10 % kept"


def test_long_trainings_are_thinned_evenly(make_run: Callable[..., object], tmp_path: Path) -> None:
    run = make_run("pruner=snip", "seed=0")
    run.write_metrics([{"epoch": e, "test_top1": float(e), "density": 0.1} for e in range(1000)])  # type: ignore[attr-defined]
    epochs = tidy(read_study([tmp_path]), all_figures())["epochs"]["epoch"]
    assert len(epochs) <= 50
    assert (epochs.iloc[0], epochs.iloc[-1]) == (0, 999)
    assert epochs.diff().max() <= 25


def test_a_study_without_a_complete_run_has_tables_too(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    make_run("pruner=mag", "seed=3", "compression=1", state="failed")
    tables = tidy(read_study([tmp_path]), all_figures())
    assert tables["runs"]["status"].tolist() == ["failed"]
    assert all(joined(tables, name).empty for name in ("weights", "units", "confusion", "rounds"))


def test_packed_columns_hold_what_was_there() -> None:
    table = pd.DataFrame({"n": [1.0, 0.25, np.nan], "text": ["b", None, "b"], "yes": [True, False, True]})
    found = json.loads(json.dumps(packed(table), allow_nan=False))
    assert found == {
        "n": [1, 0.25, None],
        "text": {"values": ["b"], "codes": [0, -1, 0]},
        "yes": [True, False, True],
    }


def test_numbers_stay_numbers_where_some_runs_have_no_pictures(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    make_run("pruner=mag", "seed=0")
    run = make_run("pruner=snip", "seed=0")
    run.write_details({"kept_by_input/fc1.weight": np.arange(25)})  # type: ignore[attr-defined]
    pixels = tidy(read_study([tmp_path]), all_figures())["pixels"]
    assert pixels["row"].tolist() == np.repeat(range(5), 5).tolist()
    assert all(isinstance(value, int) for value in packed(pixels)["column"])


def test_arrays_that_do_not_fit_cost_one_picture_and_are_named(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    run = make_run("pruner=snip", "seed=0")
    foreign = {
        "confusion/test": np.ones(4),
        "kept_by_input/fc1.weight": np.arange(25),
        "class_names": np.array(["a"]),
    }
    run.write_details(foreign)  # type: ignore[attr-defined]
    study = read_study([tmp_path])
    tables = tidy(study, all_figures())
    assert len(tables["pixels"]) == 25
    assert tables["confusion"].empty
    assert len(study.skipped) == 1
    assert "confusion" in study.skipped[0]
