"""What a run leaves on disk."""

import json
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import load_file
from torch import Tensor, nn

from prunelit.amount import Amount, sets_density
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.study.configs import CONFIGS
from prunelit.study.record import RESULT_FIELDS
from prunelit.training.callback import Pruning
from prunelit.training.models import FC
from prunelit.training.run.from_config import build_pruning, num_epochs
from runs import QUICK, csv_rows, folders, only_folder, result

PRUNERS = sorted(path.stem for path in (CONFIGS / "pruner").glob("*.yaml"))


@dataclass
class Promise:
    """What a pruner's config promises of a run: counts that follow from the plan and the units."""

    pruning: Pruning | None
    epochs: int
    target: float | None  # the final density; None: the plan decides
    rounds: int
    prunable: int
    kept: int

    @property
    def misses_its_target(self) -> bool:
        return self.target is not None and self.kept / self.prunable > self.target + 0.01

    @property
    def ends_with_pruning(self) -> bool:
        return self.pruning is not None and self.pruning.moment.after_training


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", list(overrides))


def promise_of(cfg: DictConfig, masks: dict[str, Tensor]) -> Promise:
    network = FC(num_classes=10, input_shape=(1, 8, 8))
    pruning = build_pruning(cfg, Amount.of(cfg))
    epochs = num_epochs(cfg, pruning)
    if pruning is None:
        size = sum(p.numel() for p in Selection().of(network).values())
        return Promise(None, epochs, 1.0, 0, size, size)
    targets = pruning.plan.targets(pruning.density)
    size = sum(p.numel() for p in pruning.selection.of(network).values())
    exchanges = sum(pruning.growth.due(epoch, epochs) for epoch in range(epochs))
    if pruning.selection.granularity == "unit":
        kept = kept_with_units(pruning, masks, targets[-1])
    else:
        kept = kept_by(pruning, network, targets[-1])
    return Promise(pruning, epochs, targets[-1], len(targets) + exchanges, size, kept)


def kept_by(pruning: Pruning, network: nn.Module, density: float | None) -> int:
    """How many parameters the last pruning keeps."""
    parameters = pruning.selection.of(network)
    sizes = {name: p.numel() for name, p in parameters.items()}
    plan = pruning.plan
    batches = [(torch.rand(10, 1, 8, 8), torch.arange(10))]
    objective = Objective.of_classifier(network, batches)
    groups = pruning.criterion.groups(network, parameters, objective)
    if groups is not None:  # the same share of units in each layer; layers without units keep everything
        assert density is not None
        removed = {name: sizes[name] - round(density * sizes[name]) for name in groups.alone}
        for units in groups.units:
            for name in units.members:
                removed[name] = (units.count - round(density * units.count)) * sizes[name] // units.count
        return sum(sizes.values()) - sum(removed.values())
    if plan.pattern is not None:
        some, of_each = map(int, plan.pattern.split(":"))
        return sum(size * some // of_each for size in sizes.values())
    if plan.layer_densities is not None:
        return sum(round(plan.layer_densities[name] * size) for name, size in sizes.items())
    assert density is not None
    if plan.scope == "layer":
        return sum(round(density * size) for size in sizes.values())
    return round(density * sum(sizes.values()))


def kept_with_units(pruning: Pruning, masks: dict[str, Tensor], density: float | None) -> int:
    """How many parameters are kept if a neuron goes with its bias and the weights on both sides."""
    assert density is not None
    *hidden, classes = (int(masks[f"fc{number}.bias"].sum()) for number in range(1, 7))
    assert classes == 10
    if pruning.plan.scope == "layer":
        assert hidden == [round(density * 100)] * 5
    else:
        assert sum(hidden) == round(density * 500)
    widths = [64, *hidden, classes]
    return sum(widths[1:]) + sum(before * after for before, after in pairwise(widths))


def request_of(cli, pruner: str) -> list[str]:
    """What to add to a pruner's config so that it can run, and keeps some 32 % if it may be asked to."""
    node = config(f"pruner={pruner}").pruner
    if node.densities_from is not None:
        assert cli("pruner=mag", "compression=0.5", "name=other", *QUICK)[0] == 0
        other = only_folder().rename("other")
        shutil.rmtree("outputs")
        return [f"pruner.densities_from={other}"]
    return [] if sets_density(node) else ["compression=0.5"]


@pytest.mark.parametrize("pruner", PRUNERS)
def test_every_pruner_leaves_a_whole_record(cli, pruner: str) -> None:
    request = [f"pruner={pruner}", "epochs=2", "logger=none", *request_of(cli, pruner)]
    status, out, err = cli(*request)
    assert status == 0
    folder = only_folder()
    masks = load_file(folder / "masks.safetensors")
    promise = promise_of(config(*request), masks)
    assert len(err) == promise.misses_its_target
    assert all("reached a density of" in line for line in err)
    assert f"complete: {folder}" in out
    check_tensors(promise, folder)
    check_result(promise, result(), masks)
    check_tables(promise, result(), masks)
    check_details(promise, result(), np.load(folder / "details.npz"), masks)
    assert json.loads((folder / "status.json").read_text()) == {"status": "complete"}
    for name in ("train.log", ".hydra/config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (folder / name).is_file()


def check_tensors(promise: Promise, folder: Path) -> None:
    masks, weights = load_file(folder / "masks.safetensors"), load_file(folder / "weights.safetensors")
    assert sum(int(mask.sum()) for mask in masks.values()) == promise.kept
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert weights[name][~mask].eq(0).all()
    FC(num_classes=10, input_shape=(1, 8, 8)).load_state_dict(weights, strict=True)


def check_result(promise: Promise, found: dict[str, Any], masks: dict[str, Tensor]) -> None:
    assert list(found) == list(RESULT_FIELDS)
    kept, size = promise.kept, promise.prunable
    assert (found["prunable"], found["kept"]) == (size, kept)
    assert found["density"] == kept / size
    assert found["sparsity"] == pytest.approx(1 - kept / size)
    assert found["compression"] == pytest.approx(math.log10(size / kept))
    assert 0 < found["effective_density"] <= found["density"]
    # Each weight of a linear layer is multiplied once, and biases are not counted.
    assert found["flops_dense"] == 6400 + 4 * 10000 + 1000
    kept_weights = sum(int(mask.sum()) for name, mask in masks.items() if name.endswith("weight"))
    assert found["flops_sparse"] == pytest.approx(kept_weights)
    assert found[trained_key(promise)] > 15, "two epochs of training beat chance"
    assert found["top1"] <= found["top5"] <= 100
    assert (found["epochs"], found["rounds"]) == (promise.epochs, promise.rounds)
    assert found["collapsed"] == []
    assert (found["top1_before"] is None) == (promise.pruning is None)


def trained_key(promise: Promise) -> str:
    """The accuracy at the end of the training."""
    return "top1_before" if promise.ends_with_pruning else "top1"


def check_tables(promise: Promise, found: dict[str, Any], masks: dict[str, Tensor]) -> None:
    layers = csv_rows("layers.csv")
    assert sorted(row["layer"] for row in layers) == sorted(masks)
    for row in layers:
        assert int(row["kept"]) == int(masks[row["layer"]].sum())
        assert float(row["flops_sparse"]) == pytest.approx(float(row["flops_dense"]) * float(row["density"]))
    metrics = csv_rows("metrics.csv")
    assert [int(row["epoch"]) for row in metrics] == list(range(promise.epochs))
    assert float(metrics[-1]["test_top1"]) == pytest.approx(found[trained_key(promise)])
    final = [float(row["test_top1"]) for row in metrics if float(row["density"]) == found["density"]]
    assert found["best_top1"] == (pytest.approx(max(final)) if final else None)


def check_details(promise: Promise, found: dict[str, Any], arrays: Any, masks: dict[str, Tensor]) -> None:
    confusion = arrays["confusion/test"]
    assert 100 * confusion.trace() / confusion.sum() == pytest.approx(found["top1"], abs=1e-3)
    assert arrays["class_names"].tolist() == [str(digit) for digit in range(10)]
    assert arrays["kept_by_output/fc2.weight"].tolist() == masks["fc2.weight"].sum(1).tolist()
    if promise.pruning is not None:
        assert arrays["before/fc2.weight"].sum() == 10000
        assert arrays["after/fc2.weight"].sum() == masks["fc2.weight"].sum()


def test_the_checkpoint_is_the_plain_network_s_and_has_the_masks(cli) -> None:
    assert cli("pruner=snip", *QUICK)[0] == 0
    content = torch.load(only_folder() / "checkpoints" / "last.ckpt", weights_only=True)
    FC(num_classes=10, input_shape=(1, 8, 8)).load_state_dict(content["state_dict"], strict=True)
    masks = content["callbacks"]["prunelit.Pruning"]["masks"]
    for name, mask in load_file(only_folder() / "masks.safetensors").items():
        assert torch.equal(masks[name], mask)


def test_a_sweep_has_a_folder_a_run(cli) -> None:
    status, _, err = cli("-m", "pruner=none,rand,mag", "compression=0.5,1", *QUICK)
    assert status == 0, err
    found = [json.loads((folder / "result.json").read_text()) for folder in folders()]
    amounts = sorted((r["pruner"], round(r["compression"], 2)) for r in found)
    assert amounts == [("mag", 0.5), ("mag", 1.0), ("none", 0.0), ("rand", 0.5), ("rand", 1.0)]


def test_digits_resized_run_through_a_convolutional_network(cli) -> None:
    assert cli("model=lenet5", "data.size=28", "pruner=snip", *QUICK)[0] == 0
    assert result()["prunable"] == 61706 - 236


def test_tensorboard_has_curves_histograms_and_hparams(cli) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert cli("-m", "pruner=none,snip", "epochs=2", "compression=1")[0] == 0
    keys = []
    for folder in folders():
        events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"histograms": 0}).Reload()
        tags = events.Tags()
        for tag in ("train/loss", "test/loss", "train/top1", "test/top1", "density", "final/flops_sparse"):
            assert tag in tags["scalars"], tag
        assert len(events.Scalars("test/top1")) == 2
        if "snip" in folder.name:
            assert "weights_before_pruning/fc1.weight" in tags["histograms"]
            assert "weights_after_pruning/fc1.weight" in tags["histograms"]
        assert "_hparams_/session_start_info" in events.summary_metadata
        keys.append(list(OmegaConf.load(folder / "tensorboard" / "hparams.yaml")))
    assert keys[0] == keys[1]


def test_tensorboard_has_images_at_each_round_and_can_sort_by_accuracy_and_density(cli) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    request = ("pruner=iterative", "sparsity=0.15", "model=lenet5", "data.size=28", "epochs=1")
    assert cli(*request)[0] == 0
    events = EventAccumulator(str(folders()[0] / "tensorboard")).Reload()
    for tag in ("masks/conv1.weight", "masks/fc1.weight", "kernels/conv2.weight"):
        images = events.Images(tag)
        assert [image.step for image in images] == [1, 2], tag
        assert images[0].encoded_image_string != images[1].encoded_image_string
    assert "kernels/fc1.weight" not in events.Tags()["images"]
    about = events.summary_metadata["_hparams_/experiment"].plugin_data.content
    metrics = {info.name.tag for info in HParamsPluginData.FromString(about).experiment.metric_infos}
    assert {"final/top1", "final/density"} <= metrics
    assert {"final/top1", "final/density"} <= set(events.Tags()["scalars"])


@pytest.mark.slow
def test_two_ranks_give_the_masks_of_one_and_count_each_test_image_once(tmp_path) -> None:
    """Real processes over gloo, in a sweep: each run starts once."""
    command = [sys.executable, "-m", "prunelit.train", "pruner=snip", "epochs=1", "trainer.accelerator=cpu"]
    two = [*command, "-m", "trainer=ddp", "trainer.devices=2", "seed=1,2", "name=two"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")}
    for arguments in (two, [*command, "seed=1", "name=one"]):
        done = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
    runs = sorted(tmp_path.glob("outputs/*/*seed1*"))
    assert [run.parent.name for run in runs] == ["one", "two"]
    one, other = (load_file(run / "masks.safetensors") for run in runs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert all(np.load(run / "details.npz")["confusion/test"].sum() == 355 for run in runs)
    assert len(list(tmp_path.glob("outputs/two/*/result.json"))) == 2


REAL = ("pruner=snip", "epochs=0", "logger=none")


def test_real_mnist(cli, real_data) -> None:
    assert cli("data=mnist", f"data.root={real_data}", *REAL)[0] == 0
    assert np.load(only_folder() / "details.npz")["confusion/test"].sum() == 10000


@pytest.mark.slow
def test_real_cifar10_in_a_folder(cli, real_data) -> None:
    """60,000 files are read."""
    assert cli("data=folder", f"data.root={real_data / 'cifar10'}", "model=convnet", *REAL)[0] == 0
    assert np.load(only_folder() / "details.npz")["class_names"].tolist()[:2] == ["airplane", "automobile"]
