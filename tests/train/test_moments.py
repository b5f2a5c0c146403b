"""When a run prunes, and what it keeps."""

import json

import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file

from prunelit.amount import Amount
from prunelit.study.configs import CONFIGS
from prunelit.training.run.from_config import build_pruning
from runs import QUICK, csv_rows, folders, only_folder, result


def test_training_before_pruning(cli) -> None:
    assert cli("pruner=mag", "compression=1", "pre_epochs=2", *QUICK)[0] == 0
    metrics = csv_rows("metrics.csv")
    assert [row["phase"] for row in metrics] == ["pretrain", "pretrain", "train"]
    assert [float(row["density"]) for row in metrics] == [1, 1, 0.1]
    found = result()
    assert found["top1_before"] == pytest.approx(float(metrics[1]["test_top1"]))
    assert found["best_top1"] == pytest.approx(float(metrics[2]["test_top1"]))


def test_training_before_a_pruning_that_no_epoch_follows(cli) -> None:
    assert cli("pruner=mag", "compression=1", "pre_epochs=2", "epochs=0", "logger=none")[0] == 0
    metrics, found = csv_rows("metrics.csv"), result()
    assert [float(row["density"]) for row in metrics] == [1, 1]
    assert found["density"] == pytest.approx(0.1)
    assert found["top1_before"] == pytest.approx(float(metrics[1]["test_top1"]))
    assert (found["best_top1"], found["top1"]) == (None, pytest.approx(found["top1_after"]))


def test_no_epochs_with_rounds_between_epochs_trains_and_says_so(cli) -> None:
    status, _, err = cli("pruner=iterative", "sparsity=0.5", "epochs=0", "logger=none")
    assert status == 0
    assert "warning: epochs=0: the run trains for 7 epochs" in err[0]
    assert result()["epochs"] == 7


def test_rounds_by_epoch_leave_the_published_sparsities(cli) -> None:
    """10 % of what remains each round until 50 % is passed; the learning rate starts anew each time."""
    schedule = ("scheduler=exponential", "scheduler.gamma=0.5", "pre_epochs=1", "epochs=0", "pruner.every=2")
    assert cli("pruner=iterative", "sparsity=0.5", "logger=none", *schedule)[0] == 0
    found = [float(row["sparsity_after"]) for row in csv_rows("rounds.csv")]
    assert [round(100 * s, 2) for s in found] == [10.00, 19.00, 27.10, 34.39, 40.95, 46.86, 52.17]
    assert [int(row["epoch"]) for row in csv_rows("rounds.csv")] == [1, 3, 5, 7, 9, 11, 13]
    metrics = csv_rows("metrics.csv")
    assert len(metrics) == 15
    assert [float(row["learning_rate"]) for row in metrics] == [0.001] + [0.001, 0.0005] * 7
    last = csv_rows("rounds.csv")[-1]
    assert float(last["last_top1"]) == pytest.approx(result()["top1"])
    assert float(last["best_top1"]) == pytest.approx(result()["best_top1"])


@pytest.mark.parametrize(("target", "count", "sparsity"), [(0.75, 14, 77.12), (0.9, 22, 90.15)])
def test_rounds_go_on_until_the_target_is_passed(cli, target: float, count: int, sparsity: float) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", ["pruner=iterative", f"sparsity={target}"])
    pruning = build_pruning(cfg, Amount(sparsity=target))
    assert len(pruning.steps) == count
    assert round(100 * (1 - pruning.steps[-1][1]), 2) == sparsity


def test_lottery_rewinds_kept_weights_to_the_beginning(cli) -> None:
    """With a learning rate of 0 in the last round, kept weights are those of the initialisation."""
    more = ("pruner.share=0.5", "sparsity=0.5", "logger=none")
    assert cli("pruner=rand", "compression=0", "epochs=0", "logger=none", "name=start")[0] == 0
    assert cli("pruner=lottery", "epochs=2", "name=lottery", "optimizer.lr=1e-30", *more)[0] == 0
    lottery, start = (load_file(folder / "weights.safetensors") for folder in folders())
    masks = load_file(folders()[0] / "masks.safetensors")
    for name, mask in masks.items():
        assert torch.equal(lottery[name][mask], start[name][mask])


def test_pruned_weights_may_grow_back(cli) -> None:
    assert (
        cli("pruner=std", "pruner.masked_gradient=false", "pruner.rounds=2", "epochs=0", "pre_epochs=1")[0]
        == 0
    )
    for row in csv_rows("rounds.csv"):
        assert float(row["sparsity_after"]) > 0.2
        assert float(row["sparsity_trained"]) < float(row["sparsity_after"])
    weights = load_file(only_folder() / "weights.safetensors")
    masks = load_file(only_folder() / "masks.safetensors")
    assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())


def test_pruning_after_training(cli) -> None:
    assert cli("pruner=mag", "pruner.when=end", "compression=1", "epochs=2", "logger=none")[0] == 0
    found = result()
    assert found["kept"] == 4740
    assert found["top1_after"] == pytest.approx(found["top1"])
    assert found["top1_before"] == pytest.approx(float(csv_rows("metrics.csv")[-1]["test_top1"]))
    assert [row["density"] for row in csv_rows("metrics.csv")] == ["1.0", "1.0"]


def test_no_epochs_prunes_evaluates_and_records(cli) -> None:
    assert cli("pruner=synflow", "compression=1", "epochs=0", "logger=none")[0] == 0
    found = result()
    assert (found["epochs"], found["best_top1"]) == (0, None)
    assert found["kept"] == 4740
    assert found["top1_after"] == found["top1"]


@pytest.mark.parametrize("compression", [2.0, 3.0])
def test_synflow_collapses_no_layer_of_the_default_network(cli, compression: float) -> None:
    assert cli("pruner=synflow", f"compression={compression}", "epochs=0", "logger=none")[0] == 0
    assert result()["collapsed"] == []


def test_a_network_that_collapses_is_recorded(cli) -> None:
    collapsing = ("pruner=mag", "pruner.invert=true", "compression=3", "epochs=0", "logger=none")
    status, _, err = cli(*collapsing)
    assert status == 0
    found = result()
    assert found["collapsed"]
    assert len(err) == 1
    assert err[0].startswith(f"warning: nothing is kept in {found['collapsed'][0]}")
    assert cli(*collapsing, "pruner.keep_at_least=1", "name=guarded")[0] == 0
    guarded = next(folder for folder in folders() if folder.parent.name == "guarded")
    assert json.loads((guarded / "result.json").read_text())["collapsed"] == []
    assert found["effective_density"] == 0
    assert found["top1"] < 20


def test_every_option_of_pruning_reaches_it(cli) -> None:
    options = ("pruner.bias=true", "pruner.exclude=[fc6]", "pruner.scope=layer", "pruner.rounds=3")
    more = ("pruner.shuffle=true", "pruner.reinitialize=true", "pruner.invert=true")
    assert cli("pruner=mag", "compression=1", *options, *more, "epochs=0", "logger=none")[0] == 0
    masks = load_file(only_folder() / "masks.safetensors")
    assert "fc1.bias" in masks
    assert not any(name.startswith("fc6") for name in masks)
    assert all(int(mask.sum()) == round(0.1 * mask.numel()) for mask in masks.values())
    assert result()["rounds"] == 3
