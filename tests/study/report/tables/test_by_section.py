"""Tables by round, threshold, layer and class, from numbers that are easily averaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from prunelit.study.record import Record
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.by_section import class_grids, layer_grids, round_grids, threshold_grids
from prunelit.study.report.tables.grid import Grid

MakeRun = Callable[..., Record]


def texts(grid: Grid) -> list[list[str]]:
    return [[cell.text for cell in row] for row in grid.rows]


def test_rounds_are_averaged_over_seeds(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, best in enumerate((90.0, 92.0)):
        rounds = [
            {"round": 1, "sparsity_after": 0.1, "epochs": 2, "best_top1": best},
            {"round": 2, "sparsity_after": 0.19, "epochs": 2, "best_top1": best + 1},
        ]
        make_run("pruner=iterative", "sparsity=0.15", f"seed={seed}").write_rounds(rounds)
    make_run("pruner=snip", "compression=1")
    (grid,) = round_grids(read_study([tmp_path]))
    assert grid.title == "digits, fc: iterative, sparsity 0.15, round by round"
    assert grid.header == ["round", "seeds", "sparsity, %", "epochs\nafter it", "top 1\nbest, %"]
    assert texts(grid) == [
        ["1", "2", "10.00 ± 0.00", "2", "91.00 ± 1.41"],
        ["2", "2", "19.00 ± 0.00", "2", "92.00 ± 1.41"],
    ]


def test_runs_that_share_a_seed_count_once_in_rounds_thresholds_and_layers(
    make_run: MakeRun, tmp_path: Path
) -> None:
    for seed, top1, kept in ((0, 50.0, 10), (0, 54.0, 20), (1, 60.0, 35)):
        record = make_run("pruner=karnin", "pruner.threshold=[0.45]", f"seed={seed}")
        record.write_thresholds([{"threshold": 0.45, "top1": top1}])
        record.write_rounds([{"round": r, "sparsity_after": 0.5, "best_top1": top1} for r in (1, 2)])
        record.write_layers(
            [{"layer": "fc1.weight", "shape": "100", "total": 100, "kept": kept, "density": kept / 100}]
        )
    study = read_study([tmp_path])
    assert texts(threshold_grids(study)[0]) == [["0.45", "2", "56.00 ± 5.66"]]
    assert texts(round_grids(study)[0])[0] == ["1", "2", "50.00 ± 0.00", "56.00 ± 5.66"]
    assert texts(layer_grids(study)[0])[0][-1] == "25 (25 %)"


def test_thresholds_say_what_they_leave(make_run: MakeRun, tmp_path: Path) -> None:
    rows = [
        {"threshold": 0.45, "sparsity": 0.5, "removed/fc1.weight": 46, "top1": 52.0, "top5": 90.0},
        {"threshold": 0.01, "sparsity": 0.0, "removed/fc1.weight": 0, "top1": 53.0, "top5": 91.0},
    ]
    make_run("pruner=karnin", "pruner.threshold=[0.45,0.01]").write_thresholds(rows)
    study = read_study([tmp_path])
    (grid,) = threshold_grids(study)
    assert grid.header == ["threshold", "seeds", "sparsity, %", "removed\nfc1.weight", "top 1, %", "top 5, %"]
    assert texts(grid) == [
        ["0.45", "1", "50.00", "46", "52.00", "90.00"],
        ["0.01", "1", "0.00", "0", "53.00", "91.00"],
    ]
    assert list(study.runs["asked"]) == ["threshold 0.45"]


def test_layers_say_what_is_kept_at_each_amount(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, kept in enumerate((20, 30)):
        record = make_run("pruner=snip", "compression=0.5", f"seed={seed}")
        record.write_layers(
            [{"layer": "fc1.weight", "shape": "100", "total": 100, "kept": kept, "density": kept / 100}]
        )
    make_run("pruner=snip", "compression=1")
    make_run("pruner=none")
    (grid,) = layer_grids(read_study([tmp_path]))
    assert grid.header == ["layer", "shape", "parameters", "compression 0.5", "compression 1"]
    assert texts(grid) == [
        ["fc1.weight", "100", "100", "25 (25 %)", "10 (10 %)"],
        ["fc2.weight", "10x10", "100", "–", "5 (5 %)"],
    ]


def test_classes_are_averaged_over_seeds(make_run: MakeRun, tmp_path: Path) -> None:
    # Two runs share seed 0; the test images of the last run show no dog.
    for seed, cat, dog in ((0, 30.0, 80.0), (0, 50.0, 80.0), (1, 60.0, np.nan)):
        details = {"class_names": ["cat", "dog"], "accuracy_by_class": np.array([cat, dog])}
        make_run("pruner=snip", "compression=1", f"seed={seed}").write_details(details)
    (grid,) = class_grids(read_study([tmp_path]))
    assert grid.header == ["method", "asked", "seeds", "cat", "dog"]
    assert texts(grid) == [["snip", "compression 1", "2", "50.0", "80.0"]]
