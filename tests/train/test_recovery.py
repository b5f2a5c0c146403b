"""What a run does to recover straight after a pruning, and the accuracy with and without it."""

from __future__ import annotations

import shutil

import pytest
import torch
from safetensors.torch import load_file

from runs import csv_rows, only_folder, result

RESNET = ("model=resnet20", "+trainer.limit_train_batches=8", "logger=none", "pruner=mag", "compression=0.7")


def test_batch_norm_is_recalibrated_by_seed_and_both_accuracies_are_recorded(cli) -> None:
    found, weights = [], []
    for more in ((), ("pruner.recalibrate=2",), ("pruner.recalibrate=2",)):
        assert cli(*RESNET, "pruner.when=end", "epochs=1", *more)[0] == 0
        found.append({**result(), "row": csv_rows("rounds.csv")[0]})
        weights.append(load_file(only_folder() / "weights.safetensors"))
        shutil.rmtree("outputs")
    without, first = found[:2]
    assert without["top1_recalibrated"] is None
    assert "top1_recalibrated" not in without["row"]
    assert without["top1"] == without["top1_after"] == first["top1_after"]
    assert first["top1"] == first["top1_recalibrated"] == float(first["row"]["top1_recalibrated"])
    assert first["top1_recalibrated"] != first["top1_after"]
    changed = {name for name, tensor in weights[1].items() if not torch.equal(tensor, weights[0][name])}
    assert {name.rpartition(".")[2] for name in changed} >= {"running_mean", "running_var"}
    assert {name.rpartition(".")[2] for name in changed} <= {
        "running_mean",
        "running_var",
        "num_batches_tracked",
    }
    assert all(torch.equal(tensor, weights[2][name]) for name, tensor in weights[1].items())


def test_a_network_without_batch_norm_is_left_alone_with_a_warning(cli) -> None:
    status, _, err = cli("pruner=mag", "pruner.recalibrate=2", "epochs=0", "logger=none")
    assert status == 0
    assert [line for line in err if "recalibrate" in line] == [
        "warning: recalibrate=2 changes nothing: FC has no BatchNorm with statistics"
    ]
    assert result()["top1_recalibrated"] == result()["top1_after"]


@pytest.mark.slow
def test_layers_behind_removed_units_are_repaired_before_batch_norm_is_recalibrated(cli) -> None:
    request = (*RESNET[:3], "pruner=l2_filter", "pruner.granularity=unit", "pruner.rounds=1", "sparsity=0.3")
    found, files = [], []
    for more in ((), ("pruner.repair=2",), ("pruner.repair=2", "pruner.recalibrate=2", "pruner.cut=true")):
        assert cli(*request, "pruner.when=end", "epochs=1", *more)[0] == 0
        found.append({**result(), "row": csv_rows("rounds.csv")[0]})
        files.append(load_file(only_folder() / "weights.safetensors"))
        shutil.rmtree("outputs")
    without, repaired, both = found
    assert without["top1_repaired"] is None
    assert without["top1_after"] == repaired["top1_after"] == both["top1_after"]
    assert repaired["top1"] == repaired["top1_repaired"] == both["top1_repaired"]
    assert repaired["top1_repaired"] == float(repaired["row"]["top1_repaired"])
    assert both["top1"] == both["top1_recalibrated"]
    assert without["parameters_compact"] == repaired["parameters_compact"] == sum_of_parameters(files[2])
    changed = {name for name, tensor in files[1].items() if not torch.equal(tensor, files[0][name])}
    assert "stage1.0.conv2.weight" in changed
    assert not [name for name in changed if "bn" in name]
    assert torch.equal(files[0]["stage1.0.conv2.weight"] != 0, files[1]["stage1.0.conv2.weight"] != 0)


def sum_of_parameters(tensors: dict[str, torch.Tensor]) -> int:
    return sum(t.numel() for name, t in tensors.items() if name.rpartition(".")[2] in ("weight", "bias"))


@pytest.mark.parametrize(
    "more",
    [
        ("pruner.granularity=weight",),
        ("pruner.rewind=init", "pre_epochs=1"),
        ("pruner.reinitialize=true",),
    ],
    ids=str,
)
def test_a_repair_without_removed_units_or_of_other_weights_is_refused(cli, more: tuple[str, ...]) -> None:
    status, _, err = cli("pruner=mag", "pruner.granularity=unit", "sparsity=0.5", "pruner.repair=2", *more)
    assert status == 2
    assert "pruner.repair=2" in err[-1]


def test_distillation_changes_the_training_after_the_pruning_alone(cli) -> None:
    request = ("pruner=mag", "sparsity=0.9", "pre_epochs=1", "epochs=1", "logger=none")
    rows = []
    for weight in ("0", "0.9"):
        assert cli(*request, f"distillation={weight}")[0] == 0
        rows.append(csv_rows("metrics.csv"))
        shutil.rmtree("outputs")
    first, second = rows
    assert first[0]["train_loss"] == second[0]["train_loss"]
    assert first[1]["train_loss"] != second[1]["train_loss"]


@pytest.mark.parametrize("more", [("pruner=none",), ("pruner=mag", "pruner.when=end")], ids=str)
def test_distillation_without_training_after_a_pruning_is_refused(cli, more: tuple[str, ...]) -> None:
    status, _, err = cli("distillation=0.5", *more)
    assert status == 2
    assert "distillation=0.5" in err[-1]
