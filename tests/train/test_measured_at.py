"""Every accuracy of a record belongs to the weights and the density that it stands beside."""

import numpy as np
import pytest
import torch

from prunelit.training.measuring.evaluation import evaluate_test
from prunelit.training.module import Classifier
from runs import csv_rows, only_folder, power_cut, result

RARELY = "+trainer.check_val_every_n_epoch=3"


@pytest.fixture
def truth(monkeypatch) -> list[float]:
    """Test accuracies at the end of each epoch, measured apart from the Trainer's own evaluations."""
    found: list[float] = []

    def look(self: Classifier) -> None:
        found.append(evaluate_test(self.trainer, self).top1)

    monkeypatch.setattr(Classifier, "on_train_epoch_end", look, raising=False)
    return found


def accuracies() -> list[float | None]:
    return [float(row["test_top1"]) if row["test_top1"] else None for row in csv_rows("metrics.csv")]


@pytest.mark.parametrize(
    "pruner", ["gmp", "std", *(pytest.param(pruner, marks=pytest.mark.slow) for pruner in ("set", "none"))]
)
def test_where_an_epoch_has_no_evaluation_its_accuracy_is_empty(cli, truth, pruner: str) -> None:
    more = ("pruner.masked_gradient=false", "pruner.rounds=3") if pruner == "std" else ()
    assert cli(f"pruner={pruner}", "epochs=7", "logger=none", RARELY, *more)[0] == 0
    right = [accuracy if epoch % 3 == 2 else None for epoch, accuracy in enumerate(truth)]
    assert len(right) >= 7
    assert accuracies() == right


def test_without_validation_nothing_is_measured_but_the_final_test(cli) -> None:
    assert cli("pruner=gmp", "epochs=2", "logger=none", "+trainer.limit_val_batches=0")[0] == 0
    assert set(accuracies()) == {None}
    found = result()
    assert (found["best_top1"], found["top1"] is None) == (None, False)
    assert {row["last_top1"] for row in csv_rows("rounds.csv")} == {""}


def test_of_several_evaluations_within_an_epoch_the_last_one_counts(cli, truth) -> None:
    quarters = ("batch_size=128", "+trainer.val_check_interval=0.25")
    assert cli("pruner=gmp", "epochs=3", "logger=none", *quarters)[0] == 0
    assert accuracies() == truth


def test_best_is_of_the_final_density_or_missing(cli) -> None:
    """The last evaluation comes before the last prunings: what it found is of a denser network."""
    assert cli("pruner=gmp", "epochs=2", "compression=1", "logger=none", RARELY)[0] == 0
    assert [bool(accuracy) for accuracy in accuracies()] == [epoch % 3 == 2 for epoch in range(11)]
    assert result()["best_top1"] is None
    best = torch.load(only_folder() / "checkpoints" / "best.ckpt", weights_only=True)
    masks = best["callbacks"]["prunelit.Pruning"]["masks"]
    assert sum(int(mask.sum()) for mask in masks.values()) == result()["kept"]


def test_an_exchange_of_weights_changes_no_density_and_keeps_the_best(cli, truth) -> None:
    assert cli("pruner=set", "epochs=4", "compression=1", "pruner.grow.every=2", "logger=none")[0] == 0
    assert int(csv_rows("rounds.csv")[-1]["epoch"]) == 2
    assert result()["best_top1"] == max(truth)
    best = torch.load(only_folder() / "checkpoints" / "best.ckpt", weights_only=True)
    masks = best["callbacks"]["prunelit.Pruning"]["masks"]
    assert sum(int(mask.sum()) for mask in masks.values()) == result()["kept"]


def test_a_resumed_epoch_keeps_its_evaluation(cli, monkeypatch) -> None:
    """It breaks off after the epoch's only evaluation, and goes on behind it."""
    # Five batches, evaluated after the third.
    request = ("pruner=mag", "epochs=3", "batch_size=320", "logger=none", "+trainer.val_check_interval=0.6")
    often = "sweep.checkpoint_minutes=0"
    assert cli(*request, often)[0] == 0
    undisturbed = accuracies()
    with power_cut(monkeypatch, batch=4):
        assert cli(*request, often, "rerun=true")[0] == 1
    assert cli(*request, often)[0] == 0
    assert accuracies() == undisturbed


@pytest.mark.parametrize("after", ["pruner.rewind=init", "pruner.reinitialize=true"])
def test_thresholds_are_tried_on_the_network_before_pruning(cli, after: str) -> None:
    """Whatever happens to the kept weights after it."""
    request = ("pruner=mag", "pruner.threshold=[0.02,0.05]", "pre_epochs=1", "epochs=1", "logger=none")
    found = []
    for more in ("pruner.rewind=none", after):
        assert cli(*request, "pruner.compression=null", more, f"name={len(found)}")[0] == 0
        with next(only_folder().parent.glob("*/thresholds.csv")).open() as file:
            found.append(file.read())
        only_folder().parent.rename(f"done{len(found)}")
    assert found[0] == found[1]


@pytest.mark.parametrize("limit", ["1", "0.5"])
def test_around_a_pruning_the_limits_of_the_trainer_apply(cli, limit: str) -> None:
    """The test set has two batches, of 256 and 104 images."""
    limited = (f"+trainer.limit_test_batches={limit}", f"+trainer.limit_train_batches={limit}")
    more = ("pruner.when=end", "pruner.rounds=1", "batch_size=64", "epochs=0", "pre_epochs=1")
    said = cli("pruner=mag", "logger=none", *more, *limited)
    assert said[0] == 0, said[2]
    found = result()
    assert found["top1_after"] == found["top1"]
    details = np.load(only_folder() / "details.npz")
    assert details["confusion/test_before"].sum() == details["confusion/test"].sum() == 256
