"""The tables behind the figures, against numbers by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunelit.study.report.figures import confusion, kernels, units, weights
from prunelit.study.report.figures.data import first_shown, joined, shown_in_detail, tidy
from prunelit.study.report.page.html import packed
from prunelit.study.report.records.study import read_study


def test_neurons_are_sorted_and_shares_are_of_their_own_connections() -> None:
    details = {"kept_by_output/fc": np.array([0, 4, 2]), "kept_by_input/fc": np.array([3, 3, 0, 0])}
    found = units.rows(details, {"fc": 12})
    outputs = found[found["side"] == "outputs"]
    assert outputs["kept"].tolist() == [100, 50, 0]  # of four connections each
    assert outputs["rank"].tolist() == pytest.approx([16.67, 50, 83.33])
    assert set(outputs["empty"]) == {1}
    assert found.loc[found["side"] == "inputs", "kept"].tolist() == [100, 100, 0, 0]  # of three


@pytest.mark.parametrize(("inputs", "side"), [(16, 4), (48, 4), (784, 28), (50, None), (9, None)])
def test_inputs_are_an_image_only_if_they_can_be_one(inputs: int, side: int | None) -> None:
    found = units.pixels({"kept_by_input/fc": np.arange(inputs)}, {"fc": 1000 * inputs})
    assert len(found) == (0 if side is None else side * side)


def test_colour_channels_of_a_pixel_are_added() -> None:
    kept = np.zeros(48, int)
    kept[[5, 16 + 5, 32 + 5]] = (10, 20, 0)
    found = units.pixels({"kept_by_input/fc": kept}, {"fc": 480})  # ten outputs: 30 connections a pixel
    assert found.set_index(["row", "column"]).loc[(1, 1), "kept"] == 100
    assert found["kept"].sum() == 100


def test_places_in_kernels_count_kept_weights() -> None:
    layer = np.ones((2, 2, 3, 3), np.float32)
    layer[0, :, 0, 0] = 0
    found = kernels.places({"conv": layer, "fc": np.ones((2, 2))}, ["conv", "fc"])
    assert found["kept"].tolist() == [50.0, *[100.0] * 8]


def test_kernels_lie_side_by_side_with_a_gap() -> None:
    layer = np.arange(17 * 4, dtype=np.float32).reshape(17, 1, 2, 2)
    found = kernels.rows({"conv": layer}, ["conv"])
    second = found[found["kernel"] == "output 1, input 0"]
    assert second[["x", "y"]].to_numpy().tolist() == [[3, 0], [4, 0], [3, 1], [4, 1]]
    last = found[found["kernel"] == "output 16, input 0"]
    assert last[["x", "y"]].to_numpy().tolist() == [[0, 3], [1, 3], [0, 4], [1, 4]]


def test_coarser_histograms_hold_the_same_weights() -> None:
    counts = np.arange(64)
    details = {"before/fc": counts, "after/fc": counts // 2, "edges/fc": np.linspace(-1, 1, 65)}
    found = weights.rows(details, ["fc", "absent"])
    assert len(found) == 32
    assert found["before"].tolist() == (counts[::2] + counts[1::2]).tolist()
    assert found["after"].sum() == (counts // 2).sum()
    assert (found["low"].iloc[0], found["high"].iloc[-1]) == (-1, 1)
    assert (found["high"].iloc[:-1].to_numpy() == found["low"].iloc[1:].to_numpy()).all()


def test_confusions_are_shares_of_the_true_class() -> None:
    details = {"confusion/test": np.array([[3, 1], [0, 0]]), "class_names": np.array(["same", "same"])}
    found = confusion.rows(details)
    assert found["share"].tolist() == [75, 25, 0, 0]
    assert found["true"].unique().tolist() == ["same (0)", "same (1)"]


def test_pictures_are_of_the_first_seed_of_each_method_and_amount(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    for seed in (1, 0):
        for compression in (0.5, 1.0, 2.0):
            make_run("pruner=snip", f"seed={seed}", f"compression={compression}")
    make_run("pruner=mag", "seed=3", "compression=1", state="failed")
    runs = tidy(read_study([tmp_path]))["runs"]
    shown = runs.set_index("run").loc[shown_in_detail(runs)]
    assert set(zip(shown["asked"], shown["seed"], strict=True)) == {
        ("compression 0.5", 0),
        ("compression 1", 0),
        ("compression 2", 0),
    }
    assert runs.set_index("run").loc[first_shown(runs), "asked"].tolist() == ["compression 1"]


def test_long_trainings_are_thinned_evenly(make_run: Callable[..., object], tmp_path: Path) -> None:
    run = make_run("pruner=snip", "seed=0")
    run.write_metrics([{"epoch": e, "test_top1": float(e), "density": 0.1} for e in range(1000)])  # type: ignore[attr-defined]
    epochs = tidy(read_study([tmp_path]))["epochs"]["epoch"]
    assert len(epochs) <= 50
    assert (epochs.iloc[0], epochs.iloc[-1]) == (0, 999)
    assert epochs.diff().max() <= 25


def test_a_study_without_a_complete_run_has_tables_too(
    make_run: Callable[..., object], tmp_path: Path
) -> None:
    make_run("pruner=mag", "seed=3", "compression=1", state="failed")
    tables = tidy(read_study([tmp_path]))
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
    pixels = tidy(read_study([tmp_path]))["pixels"]
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
    tables = tidy(study)
    assert len(tables["pixels"]) == 25
    assert tables["confusion"].empty
    assert len(study.skipped) == 1
    assert "confusion" in study.skipped[0]
