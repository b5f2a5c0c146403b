"""Runs that start from the checkpoint of a pruned run."""

import csv
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import prunelit
from prunelit import BadRequest, HoldMasks
from prunelit.training.models import CifarResNet
from runs import csv_rows, folders, power_cut, result
from stock import Stranger, Watch, loader, trainer

SHORT = ("batch_size=512", "logger=none")


@pytest.fixture
def pruned(cli) -> Path:
    """The folder of a run that keeps a tenth, with biases and without the last layer."""
    more = ("pruner.bias=true", "pruner.exclude=[fc6]")
    assert cli("pruner=mag", "compression=1", "epochs=1", *more, *SHORT)[0] == 0
    (folder,) = folders()
    return folder.parent.rename("first") / folder.name


@pytest.mark.parametrize("file", ["weights.safetensors", "checkpoints/last.ckpt"])
@pytest.mark.parametrize("epochs", [0, 2])
def test_a_pruned_network_is_trained_on_under_its_masks(cli, pruned: Path, file: str, epochs: int) -> None:
    assert cli("pruner=none", f"checkpoint={pruned / file}", f"epochs={epochs}", *SHORT)[0] == 0
    (folder,) = folders()
    before, after = (load_file(each / "masks.safetensors") for each in (pruned, folder))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    weights, old = (load_file(each / "weights.safetensors") for each in (folder, pruned))
    assert all(weights[name][~mask].eq(0).all() for name, mask in after.items())
    changed = any(not torch.equal(weights[name], old[name]) for name in weights)
    assert changed == (epochs > 0)
    kept, total = (sum(int(f(mask)) for mask in after.values()) for f in (torch.sum, torch.numel))
    found = result()
    assert (found["kept"], found["prunable"], found["density"]) == (kept, total, kept / total)
    assert found["rounds"] == 0
    assert {float(row["density"]) for row in csv_rows("metrics.csv")} <= {found["density"]}
    with (pruned / "layers.csv").open() as file_:
        layers = [(row["layer"], row["kept"], row["density"]) for row in csv.DictReader(file_)]
    assert [(row["layer"], row["kept"], row["density"]) for row in csv_rows("layers.csv")] == layers
    assert found["best_top1"] == max(
        (float(row["test_top1"]) for row in csv_rows("metrics.csv")), default=None
    )


def test_its_checkpoints_resume_and_can_be_started_from_again(cli, pruned: Path, monkeypatch) -> None:
    request = ("pruner=none", f"checkpoint={pruned / 'weights.safetensors'}", "epochs=3", "logger=none")
    with power_cut(monkeypatch):
        assert cli(*request)[0] == 1
    assert cli(*request)[0] == 0
    (second,) = folders()
    again = second.parent.rename("second") / second.name / "checkpoints" / "last.ckpt"
    assert cli("pruner=none", f"checkpoint={again}", "epochs=0", *SHORT)[0] == 0
    (third,) = folders()
    masks = [load_file(each / "masks.safetensors") for each in (pruned, third)]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[0])


def test_epochs_before_another_pruning_keep_the_zeros_too(cli, pruned: Path) -> None:
    more = (
        "pruner=rand",
        "compression=1.5",
        "pre_epochs=1",
        "epochs=1",
        "pruner.bias=true",
        "pruner.exclude=[fc6]",
    )
    assert cli(f"checkpoint={pruned / 'weights.safetensors'}", *more, *SHORT)[0] == 0
    densities = [float(row["density"]) for row in csv_rows("metrics.csv")]
    assert densities == pytest.approx([0.1, 10**-1.5], rel=1e-3)
    (round_,) = csv_rows("rounds.csv")
    assert float(round_["sparsity_before"]) == pytest.approx(0.9, abs=1e-3)
    first = load_file(pruned / "masks.safetensors")
    second = load_file(folders()[0] / "masks.safetensors")
    assert not any((second[name] & ~first[name]).any() for name in second)


def test_zeros_without_masks_are_trained_with_one_warning(cli, pruned: Path, tmp_path) -> None:
    save_file(load_file(pruned / "weights.safetensors"), tmp_path / "sparse.safetensors")
    status, _, err = cli("pruner=none", f"checkpoint={tmp_path / 'sparse.safetensors'}", "epochs=1", *SHORT)
    assert (status, result()["density"], len(err)) == (0, 1.0, 1)
    assert "weights are 0 but the file has no masks" in err[0]


def test_masks_hold_in_own_trainers() -> None:
    module = Stranger()
    with pytest.raises(BadRequest, match=r"masks=0\.weight"):
        trainer(HoldMasks({"0.weight": torch.ones(2)}, network="backbone")).fit(module, loader())
    with pytest.raises(BadRequest, match=r"^masks=null: "):
        trainer(HoldMasks()).fit(module, loader())
    torch.manual_seed(0)
    masks = {f"backbone.{n}.weight": torch.rand_like(module.backbone[n].weight) < 0.2 for n in (0, 4, 6)}
    hold = HoldMasks(masks)
    watch = Watch(hold)
    trainer(hold, watch).fit(module, loader())
    assert watch.steps == 8
    assert all(torch.equal(dict(module.named_parameters())[n] != 0, mask) for n, mask in masks.items())
    kept, total = (sum(int(f(mask)) for mask in masks.values()) for f in (torch.sum, torch.numel))
    assert hold.current_density == kept / total


def test_a_network_of_a_folder_is_trained_with_the_statistics_of_its_batches(cli, tmp_path: Path) -> None:
    build = partial(CifarResNet, 10, (1, 8, 8), depth=8)
    network = build()
    prunelit.save(network, tmp_path / "small", build)
    given = ("model=custom", "model._target_=prunelit.load", f"+model.folder={tmp_path / 'small'}")
    assert cli(*given, "pruner=none", "epochs=1", "batch_size=512", "logger=none")[0] == 0
    (folder,) = folders()
    trained = load_file(folder / "weights.safetensors")
    assert trained["bn.num_batches_tracked"] > 0
    assert not torch.equal(trained["bn.running_mean"], network.bn.running_mean)
