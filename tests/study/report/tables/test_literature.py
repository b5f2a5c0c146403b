"""Runs are laid beside the published numbers that they repeat, and doubtful ones are called so."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from prunelit.study.record import Record
from prunelit.study.report.records.study import read_study
from prunelit.study.report.tables.by_section import TITLES, literature_grids
from prunelit.study.report.tables.experiments import differing_settings
from prunelit.study.report.tables.literature import (
    SOURCES,
    VALUES,
    against_literature,
    parse_setting,
    published,
)

MakeRun = Callable[..., Record]

BUTLER = ("data=cifar10", "model=vgg16", "experiment=butler_cifar10")
ROUNDS = [
    {"round": 1, "sparsity_after": 0.1, "best_top1": 93.0},
    {"round": 2, "sparsity_after": 0.19, "best_top1": 94.0},
]


def compared(folder: Path, **wanted: str) -> pd.DataFrame:
    found = against_literature(read_study([folder]))
    for key, value in wanted.items():
        found = found[found[key] == value]
    return found


def test_ours_theirs_and_the_difference(make_run: MakeRun, tmp_path: Path) -> None:
    for seed, top1 in enumerate((80.0, 82.0)):
        make_run(*BUTLER, "pruner=mag", "compression=0.5", f"seed={seed}", top1=top1, flops_sparse=146.4e6)
    row = compared(tmp_path, table="II").iloc[0]
    assert (row["method"], row["setting"], row["n"]) == ("mag", "compression=0.5", 2)
    assert (row["ours"], row["theirs"]) == (81.0, 80.31)
    assert row["difference"] == pytest.approx(0.69)
    assert row["differs"] == ""
    flops = compared(tmp_path, metric="flops_millions").iloc[0]
    assert flops["difference"] == pytest.approx(146.4 - 145.4)


def test_sparsity_that_means_the_published_compression_matches(make_run: MakeRun, tmp_path: Path) -> None:
    make_run(*BUTLER, "pruner=mag", "sparsity=0.9")
    make_run(*BUTLER, "pruner=mag", "sparsity=0.91")
    found = compared(tmp_path, table="II")
    assert list(found["setting"]) == ["compression=1.0"]


def test_other_settings_than_the_published_are_told(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("data=cifar10", "model=vgg16", "pruner=synflow", "compression=1", "epochs=160")
    differs = compared(tmp_path, table="II").iloc[0]["differs"]
    assert "epochs=160 (published: 10)" in differs
    assert "pruner.rounds=100 (published: 1)" in differs


def test_accuracies_called_top_1_that_are_top_5_are_compared_with_top_5(
    make_run: MakeRun, tmp_path: Path
) -> None:
    make_run("data=cifar100", "model=vgg16", "pruner=rand", "compression=2", top1=1.0, top5=5.0)
    row = compared(tmp_path, table="II").iloc[0]
    assert (row["ours"], row["theirs"], row["difference"]) == (5.0, 5.0, 0.0)
    assert "top 5" in row["doubt"]


@pytest.mark.parametrize(
    ("wanted", "value", "why"),
    [
        ({"report": "shi2022", "table": "5"}, 98.99, "89.99"),
        (
            {"report": "butler2022", "metric": "flops_millions", "data": "cifar100", "method": "synflow"},
            9.3,
            "257",
        ),
        ({"report": "shi2022", "table": "3", "setting": "target=0.75 sparsity_percent=52.17"}, 93.5, "93.37"),
        ({"report": "khanal2018", "setting": "threshold=0.01", "metric": "removed_fc1"}, 37, "0.001"),
        ({"report": "khanal2018", "setting": "threshold=0.45 class=dog", "method": "karnin"}, 41, "401"),
        ({"report": "butler2022", "table": "III", "data": "cifar100", "method": "snip"}, 15.0, "failed"),
        ({"report": "butler2022", "table": "I", "data": "mnist", "method": "rand"}, 99.87, "mixed"),
    ],
)
def test_doubtful_numbers_say_why(wanted: dict[str, str], value: float, why: str) -> None:
    facts = published()
    for key, text in wanted.items():
        facts = facts[facts[key] == text]
    (fact,) = facts[facts["value"] == value].to_dict("records")
    assert why in fact["doubt"]


def test_numbers_round_by_round(make_run: MakeRun, tmp_path: Path) -> None:
    record = make_run("data=cifar10", "model=resnet18", "pruner=iterative", "sparsity=0.5")
    record.write_rounds(ROUNDS)
    found = compared(tmp_path, report="shi2022")
    assert list(found["setting"]) == [
        *("target=0.5 sparsity_percent=10.0", "target=0.5 sparsity_percent=19.0", "sparsity=0.5")
    ]
    assert list(found["ours"]) == [93.0, 94.0, 91.0]


def test_numbers_by_layer_class_and_threshold(make_run: MakeRun, tmp_path: Path) -> None:
    lenet = make_run("data=mnist", "model=lenet5", "pruner=snip", "sparsity=0.95", best_top1=98.5)
    lenet.write_layers(
        [{"layer": "conv1.weight", "shape": "6x1x5x5", "total": 150, "kept": 100, "density": 0.66}]
    )
    karnin = make_run("experiment=khanal_convnet", top1=53.0)
    karnin.write_thresholds(
        [{"threshold": 0.45, "top1": 53.0, "removed/fc1.weight": 50}, {"threshold": 0.31, "top1": 54.0}]
    )
    karnin.write_details({"class_names": ["airplane", "cat"], "accuracy_by_class": np.array([60.0, 45.0])})
    found = against_literature(read_study([tmp_path])).set_index(["setting", "metric"])["ours"]
    assert found["sparsity=0.95 layer=conv 1 params=150", "kept"] == 100
    assert found["sparsity=0.95", "error_percent"] == 1.5
    assert found["threshold=0.45 class=plane", "class_accuracy_percent"] == 60.0
    assert found["threshold=0.45", "removed_fc1"] == 50
    assert ("threshold=0.31", "class_accuracy_percent") not in found.index


def test_a_network_that_was_not_trained_is_not_counted_as_destroyed_or_not(
    make_run: MakeRun, tmp_path: Path
) -> None:
    asked = ("data=mnist", "model=lenet5", "pruner=snip", "sparsity=0.96")
    make_run(*asked, best_top1=None)
    assert compared(tmp_path, metric="destroyed_of_10").empty
    make_run(*asked, "seed=1", best_top1=11.0)
    (row,) = compared(tmp_path, metric="destroyed_of_10").to_dict("records")
    assert (row["n"], row["ours"]) == (1, 10.0)


def test_settings_are_those_of_the_method_s_own_experiment() -> None:
    """Three methods of one report, data set and network differ in augmentation."""
    config = {"pruner": {"name": "std"}, "data": {"augment": False}}
    place = ("evani", "cifar10", "convnet")
    assert "data.augment=false (published: true)" in differing_settings(*place, config)
    config["pruner"]["name"] = "thinet"
    assert "augment" not in differing_settings(*place, config)
    config["pruner"]["name"] = "snip"
    assert differing_settings(*place, config) == ""


def test_runs_that_repeat_nothing_have_no_rows(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("data=digits", "model=fc", "pruner=snip", "compression=0.5")
    make_run(*BUTLER, "pruner=mag", "compression=0.5", state="failed")
    assert compared(tmp_path).empty


def test_doubts_stand_below_the_table(make_run: MakeRun, tmp_path: Path) -> None:
    make_run("data=cifar100", "model=vgg16", "experiment=butler_cifar100", "pruner=snip", "compression=0.05")
    (grid, *_) = [g for g in literature_grids(compared(tmp_path)) if "top 5" in g.title]
    assert [cell.text for cell in grid.rows[0][3:]] == ["99.00", "failed (a)", "–"]
    assert grid.notes[0].startswith("(a) the run failed")


def test_what_is_shipped_is_whole() -> None:
    facts = published()
    assert set(facts["report"]) == set(SOURCES)
    assert len(facts) > 300
    empty = facts[facts["value"].isna()]
    assert all("failed" in note for note in empty["note"])
    unmatched = {"val_accuracy", "sparsity"}  # of a network and data set that the report does not name
    assert set(facts["metric"]) - set(VALUES) == unmatched
    assert set(TITLES) == set(VALUES)
    assert not math.isnan(facts["value"].iloc[0])


def test_settings_are_read_as_they_are_written() -> None:
    assert parse_setting("sparsity=0.5 layer=bias full 1 params=300") == {
        "sparsity": "0.5",
        "layer": "bias full 1",
        "params": "300",
    }
    assert parse_setting("") == {}
