"""The smallest part of each published report, run by the command and compared: minutes on two cores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from prunelit.reproduce import main

pytestmark = pytest.mark.reproduction


def cells(name: str, folder: Path, *arguments: str) -> pd.DataFrame:
    """Repeat a part of a report; return the published numbers that were run, beside ours."""
    assert main([name, "--output-dir", str(folder), *arguments]) == 0
    (path,) = (folder / "reproduce" / name).rglob(f"{name}.csv")
    found = pd.read_csv(path)
    return found[found["n"] > 0]


@pytest.fixture
def cifar10(real_data: Path) -> tuple[str, str]:
    return ("--images", f"cifar10={real_data / 'cifar10'}")


FEW_TESTS = ("+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1", "data.eval_batch_size=16")


def test_butler_s_flops_of_methods_that_need_no_images(tmp_path: Path, cifar10: tuple[str, str]) -> None:
    less = ("--seeds", "1", "pruner=mag,rand,synflow", "compression=2")
    found = cells("butler2022", tmp_path, "--only", "flops_cifar10", *cifar10, *less)
    flops = found[found["metric"] == "flops_millions"]
    assert len(flops) == 3
    assert (flops["difference"].abs() <= 0.005 * flops["value"] + 0.05).all()


def test_shi_s_sparsities_round_by_round(tmp_path: Path, cifar10: tuple[str, str]) -> None:
    less = ("sparsity=0.5", "+trainer.limit_train_batches=1", "batch_size=16", *FEW_TESTS)
    found = cells("shi2022", tmp_path, "--only", "2", "--scale", "0.01", *cifar10, *less)
    assert len(found[found["table"] == "2"]) == 7


def test_mikler_s_counts_by_layer(tmp_path: Path, real_data: Path) -> None:
    less = ("--seeds", "1", f"data.root={real_data}")
    found = cells("mikler2019", tmp_path, "--only", "layers_lenet300100", *less)
    totals = found["setting"].str.extract(r"params=(\d+)")[0].astype(float)
    assert len(found) == 12
    points = 100 * (found["difference"] / totals)[totals >= 100]
    assert points.abs().max() <= 10


def test_khanal_s_random_scores_lose_the_share_of_the_threshold(
    tmp_path: Path, cifar10: tuple[str, str]
) -> None:
    """Which weights they are trained to does not matter, so that a few steps of training will do."""
    less = ("--seeds", "3", "+trainer.limit_train_batches=10", *FEW_TESTS)
    found = cells("khanal2018", tmp_path, "--only", "random", *cifar10, *less)
    removed = found[found["metric"].str.startswith("removed") & (found["setting"] == "threshold=0.45")]
    # Means of three draws of 48,000 and 10,080 weights: within three standard deviations of theirs and ours.
    deviation = (removed["value"] * 0.55 * (1 + 1 / 3)) ** 0.5
    assert len(removed) == 2
    assert (removed["difference"].abs() <= 3 * deviation).all()


def test_evani_s_magnitudes_lose_less_than_filters_without_retraining(
    tmp_path: Path, cifar10: tuple[str, str]
) -> None:
    less = ("sparsity=0.6", "+trainer.limit_val_batches=1")
    cells("evani2023", tmp_path, "--only", "curves", "--scale", "0.05", *cifar10, *less)
    (path,) = (tmp_path / "reproduce").rglob("curves/report/results.csv")
    top1 = pd.read_csv(path).groupby("pruner")["top1"].mean()
    assert top1["mag"] > top1["l1_filter"]
