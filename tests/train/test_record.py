"""What a run leaves on disk."""

import json
import math
import os
import shutil
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file

from prunelit.amount import Amount
from prunelit.study.configs import CONFIGS
from prunelit.study.record import RESULT_FIELDS
from prunelit.training.models import FC
from prunelit.training.run.from_config import build_pruning, num_epochs
from runs import QUICK, csv_rows, folders, only_folder, result


def planned(pruner: str) -> tuple[list[float | None], int]:
    """The densities and the epochs that a pruner's own config promises."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", [f"pruner={pruner}", "epochs=2"])
    if pruner in ("like", "nm"):
        return [None], 2
    pruning = build_pruning(cfg, Amount(0.5))
    densities = pruning.plan.targets(pruning.density) if pruning else [1.0]
    epochs = num_epochs(cfg, pruning)
    if pruning:  # weights that change places are as many after as before
        densities += [densities[-1]] * sum(pruning.growth.due(epoch, epochs) for epoch in range(epochs))
    return densities, epochs


@pytest.mark.parametrize("pruner", sorted(path.stem for path in (CONFIGS / "pruner").glob("*.yaml")))
def test_every_pruner_leaves_a_whole_record(cli, pruner: str) -> None:
    amount = ["compression=0.5"]
    if pruner in ("like", "nm"):
        # Another run's masks, or a pattern, decide how much is kept.
        assert cli("pruner=mag", "compression=0.5", "name=other", *QUICK)[0] == 0
        amount = [f"pruner.densities_from={only_folder().rename('other')}"] if pruner == "like" else []
        shutil.rmtree("outputs")
    status, out, err = cli(f"pruner={pruner}", "epochs=2", *amount)
    assert status == 0
    found, folder = result(), only_folder()
    asked = found["asked_compression"]
    missed = pruner == "thinet" and asked is not None and found["density"] > 10**-asked + 0.01
    assert len(err) == missed
    assert all("reached a density of" in line for line in err)
    assert f"complete: {folder}" in out
    assert list(found) == list(RESULT_FIELDS)
    n = 6400 + 4 * 10000 + 1000
    targets, epochs = planned(pruner)
    kept = found["kept"] if targets[-1] is None else round(targets[-1] * n)
    biases = 0
    if pruner in ("like", "nm"):
        kept = round(10**-0.5 * n) if pruner == "like" else n // 2
    if pruner in ("uniform", "karnin"):
        kept = sum(round(10**-0.5 * size) for size in (6400, *[10000] * 4, 1000))
    if pruner == "l1_filter":  # linear layers one by one, with their biases
        biases = 5 * 32 + 3
        kept = biases + sum(round(10**-0.5 * size) for size in (6400, *[10000] * 4, 1000))
    if pruner == "thinet":  # 32 of 100 neurons of all layers but the last
        biases = 5 * 32 + 10
        kept = biases + 32 * 64 + 4 * 32 * 100 + 1000
    if pruner in ("fpgm", "l2_filter"):  # 32 of 100 neurons, with the inputs that the next layer had of them
        biases = 5 * 32 + 10
        kept = biases + 32 * 64 + 4 * 32 * 32 + 32 * 10
    if pruner == "bn_scale":  # 158 of 500 neurons, of all layers together
        units = [int(m.sum()) for n, m in load_file(folder / "masks.safetensors").items() if "bias" in n]
        assert sum(units) == 158 + 10
        biases, kept = sum(units), sum(units) + sum(a * b for a, b in pairwise([64, *units]))
    n += 510 if biases else 0
    assert (found["prunable"], found["kept"]) == (n, kept)
    assert found["density"] == kept / n
    assert found["sparsity"] == pytest.approx(1 - kept / n)
    assert found["compression"] == pytest.approx(math.log10(n / kept))
    assert 0 < found["effective_density"] <= found["density"]
    assert found["flops_dense"] == 47400
    assert found["flops_sparse"] == pytest.approx(kept - biases)
    at_end = pruner == "karnin"  # after training, and no training follows
    assert found["top1_before" if at_end else "top1"] > 15, "two epochs of training beat chance"
    assert found["top1"] <= found["top5"] <= 100
    assert found["epochs"] == epochs
    assert found["rounds"] == (0 if pruner == "none" else len(targets))
    assert found["collapsed"] == []
    assert found["top1_before"] is None if pruner == "none" else found["top1_before"] is not None
    masks, weights = load_file(folder / "masks.safetensors"), load_file(folder / "weights.safetensors")
    assert sum(int(mask.sum()) for mask in masks.values()) == kept
    for name, mask in masks.items():
        assert mask.dtype == torch.bool
        assert weights[name][~mask].eq(0).all()
    network = FC(num_classes=10, input_shape=(1, 8, 8))
    network.load_state_dict(weights, strict=True)
    layers = csv_rows("layers.csv")
    assert sorted(row["layer"] for row in layers) == sorted(masks)
    for row in layers:
        assert int(row["kept"]) == int(masks[row["layer"]].sum())
        assert float(row["flops_sparse"]) == pytest.approx(float(row["flops_dense"]) * float(row["density"]))
    metrics = csv_rows("metrics.csv")
    assert [int(row["epoch"]) for row in metrics] == list(range(epochs))
    assert float(metrics[-1]["test_top1"]) == pytest.approx(found["top1_before" if at_end else "top1"])
    final = [float(row["test_top1"]) for row in metrics if float(row["density"]) == found["density"]]
    assert found["best_top1"] == (pytest.approx(max(final)) if final else None)
    details = np.load(folder / "details.npz")
    confusion = details["confusion/test"]
    assert 100 * confusion.trace() / confusion.sum() == pytest.approx(found["top1"], abs=1e-3)
    assert details["class_names"].tolist() == [str(digit) for digit in range(10)]
    kept_of = details["kept_by_output/fc2.weight"]
    assert kept_of.tolist() == masks["fc2.weight"].sum(1).tolist()
    if pruner != "none":
        assert details["before/fc2.weight"].sum() == 10000
        assert details["after/fc2.weight"].sum() == masks["fc2.weight"].sum()
    assert json.loads((folder / "status.json").read_text()) == {"status": "complete"}
    for name in ("train.log", ".hydra/config.yaml", "checkpoints/last.ckpt", "checkpoints/best.ckpt"):
        assert (folder / name).is_file()


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


def test_real_mnist_and_cifar10(cli, real_data) -> None:
    quick = ("pruner=snip", "epochs=0", "logger=none")
    assert cli("data=mnist", f"data.root={real_data}", *quick, "name=mnist")[0] == 0
    assert (
        cli("data=folder", f"data.root={real_data / 'cifar10'}", "model=convnet", *quick, "name=cifar")[0]
        == 0
    )
    cifar, mnist = folders()
    assert np.load(mnist / "details.npz")["confusion/test"].sum() == 10000
    assert np.load(cifar / "details.npz")["class_names"].tolist()[:2] == ["airplane", "automobile"]
