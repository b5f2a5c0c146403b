"""The command line of a run: what it leaves on disk, what it refuses, what it repeats."""

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from torch import nn

from prunelit import train
from prunelit.study.command import CONFIGS
from prunelit.study.record import RESULT_FIELDS
from prunelit.training.build import build_pruning, num_epochs
from prunelit.training.models import FC
from prunelit.training.module import Classifier

QUICK = ("epochs=1", "logger=none")
SMALLEST = ("epochs=0", "logger=none", "pruner=rand")


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Call the program in an empty folder; return its exit status, output and error lines."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as end:
            train.main()
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line and "Warning" not in line]
        return int(end.value.code or 0), out, lines

    return call


@contextmanager
def power_cut(monkeypatch):
    """Let the third epoch break off after a few steps."""
    step = Classifier.training_step

    def broken(self, batch, batch_idx):
        if self.current_epoch == 2 and batch_idx == 3:
            raise RuntimeError("power cut")
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", broken)
        yield


def folders(pattern: str = "*") -> list[Path]:
    return sorted(path.parent for path in Path("outputs").glob(f"{pattern}/{pattern}/result.json"))


def only_folder() -> Path:
    (folder,) = folders()
    return folder


def result() -> dict:
    return json.loads((only_folder() / "result.json").read_text())


def rows(name: str) -> list[dict]:
    with (only_folder() / name).open() as file:
        return list(csv.DictReader(file))


def planned(pruner: str) -> tuple[list[float | None], int]:
    """The densities and the epochs that a pruner's own config promises."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", [f"pruner={pruner}", "epochs=2"])
    if pruner in ("like", "nm"):
        return [None], 2
    pruning = build_pruning(cfg, 0.5, None)
    densities = pruning.plan.targets(pruning.density) if pruning else [1.0]
    epochs = num_epochs(cfg, pruning)
    if pruning:  # weights that change places are as many after as before
        densities += [densities[-1]] * sum(pruning.growth.due(epoch, epochs) for epoch in range(epochs))
    return densities, epochs


@pytest.mark.parametrize("pruner", sorted(path.stem for path in Path("conf/pruner").glob("*.yaml")))
def test_every_pruner_leaves_a_whole_record(cli, pruner: str) -> None:
    amount = ["compression=0.5"]
    if pruner in ("like", "nm"):
        # Another run's masks, or a pattern, decide how much is kept.
        assert cli("pruner=mag", "compression=0.5", "name=other", *QUICK)[0] == 0
        amount = [f"pruner.mask_from={only_folder().rename('other')}"] if pruner == "like" else []
        shutil.rmtree("outputs")
    status, out, err = cli(f"pruner={pruner}", "epochs=2", *amount)
    assert (status, err) == (0, [])
    found, folder = result(), only_folder()
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
    layers = rows("layers.csv")
    assert sorted(row["layer"] for row in layers) == sorted(masks)
    for row in layers:
        assert int(row["kept"]) == int(masks[row["layer"]].sum())
        assert float(row["flops_sparse"]) == pytest.approx(float(row["flops_dense"]) * float(row["density"]))
    metrics = rows("metrics.csv")
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


def test_one_seed_one_result_bit_for_bit(cli) -> None:
    for name in ("a", "b"):
        assert cli("pruner=snip", "epochs=2", "logger=none", f"name={name}")[0] == 0
    one, other = (load_file(folder / "weights.safetensors") for folder in folders())
    assert all(torch.equal(one[name], other[name]) for name in one)
    first, second = (json.loads((f / "result.json").read_text()) for f in folders())
    clocks = {key for key in first if key.endswith("seconds")} | {"peak_memory_bytes"}
    assert {k: first[k] for k in first.keys() - clocks} == {k: second[k] for k in second.keys() - clocks}


def test_methods_of_one_seed_start_from_the_same_weights(cli) -> None:
    """Only what was pruned differs: the dense start is the same for every method."""
    for pruner in ("rand", "grasp"):
        assert cli(f"pruner={pruner}", "epochs=0", "logger=none")[0] == 0
    (one, other), masks = (
        [load_file(f / "weights.safetensors") for f in folders()],
        [load_file(f / "masks.safetensors") for f in folders()],
    )
    for name in masks[0]:
        both = masks[0][name] & masks[1][name]
        assert torch.equal(one[name][both], other[name][both])


def test_no_epochs_prunes_evaluates_and_records(cli) -> None:
    assert cli("pruner=synflow", "compression=1", "epochs=0", "logger=none")[0] == 0
    found = result()
    assert (found["epochs"], found["best_top1"]) == (0, None)
    assert found["kept"] == 4740
    assert found["top1_after"] == found["top1"]


def test_sparsity_asks_for_the_same_as_compression(cli) -> None:
    assert cli(*SMALLEST, "sparsity=0.9")[0] == 0
    assert result()["kept"] == 4740


def test_training_before_pruning(cli) -> None:
    assert cli("pruner=mag", "compression=1", "pre_epochs=2", *QUICK)[0] == 0
    metrics = rows("metrics.csv")
    assert [row["phase"] for row in metrics] == ["pretrain", "pretrain", "train"]
    assert [float(row["density"]) for row in metrics] == [1, 1, 0.1]
    found = result()
    assert found["top1_before"] == pytest.approx(float(metrics[1]["test_top1"]))
    assert found["best_top1"] == pytest.approx(float(metrics[2]["test_top1"]))


def test_a_sweep_has_a_folder_a_run(cli) -> None:
    status, _, err = cli("-m", "pruner=none,rand,mag", "compression=0.5,1", *QUICK)
    assert status == 0, err
    found = [json.loads((folder / "result.json").read_text()) for folder in folders()]
    amounts = sorted((r["pruner"], round(r["compression"], 2)) for r in found)
    assert amounts == [("mag", 0.5), ("mag", 1.0), ("none", 0.0), ("rand", 0.5), ("rand", 1.0)]


def test_a_complete_run_is_not_done_again_unless_asked(cli) -> None:
    assert cli(*SMALLEST)[0] == 0
    written = (only_folder() / "result.json").stat().st_mtime_ns
    status, out, _ = cli(*SMALLEST)
    assert status == 0
    assert "complete already" in out
    assert (only_folder() / "result.json").stat().st_mtime_ns == written
    assert cli(*SMALLEST, "rerun=true")[0] == 0
    assert (only_folder() / "result.json").stat().st_mtime_ns != written
    assert len(list(Path("outputs/default/.previous").iterdir())) == 1, "the old record is put aside"


def test_start_from_a_pruned_checkpoint_shrinks_its_masks(cli, tmp_path) -> None:
    assert cli("pruner=mag", "compression=0.5", "name=first", *QUICK)[0] == 0
    first = next(iter(folders()))
    for source in ("checkpoints/last.ckpt", "weights.safetensors"):
        name = source.replace("/", "_").replace(".", "_")
        arguments = ("pruner=rand", "compression=1", "epochs=0", "logger=none", f"name={name}")
        assert cli(*arguments, f"checkpoint={first / source}")[0] == 0
        second = next(folder for folder in folders() if folder.parent.name == name)
        before, after = load_file(first / "masks.safetensors"), load_file(second / "masks.safetensors")
        assert all(not (after[n] & ~before[n]).any() for n in after)
        assert sum(int(mask.sum()) for mask in after.values()) == 4740


def test_digits_resized_run_through_a_convolutional_network(cli) -> None:
    assert cli("model=lenet5", "data.size=28", "pruner=snip", *QUICK)[0] == 0
    assert result()["prunable"] == 61706 - 236


def test_every_option_of_pruning_reaches_it(cli) -> None:
    options = ("pruner.bias=true", "pruner.exclude=[fc6]", "pruner.scope=layer", "pruner.rounds=3")
    more = ("pruner.shuffle=true", "pruner.reinitialize=true", "pruner.invert=true")
    assert cli("pruner=mag", "compression=1", *options, *more, "epochs=0", "logger=none")[0] == 0
    masks = load_file(only_folder() / "masks.safetensors")
    assert "fc1.bias" in masks
    assert not any(name.startswith("fc6") for name in masks)
    assert all(int(mask.sum()) == round(0.1 * mask.numel()) for mask in masks.values())
    assert result()["rounds"] == 3


def test_rounds_by_epoch_leave_the_published_sparsities(cli) -> None:
    """10 % of what remains each round until 50 % is passed; the learning rate starts anew each time."""
    schedule = ("scheduler=exponential", "scheduler.gamma=0.5", "pre_epochs=1", "epochs=0", "pruner.every=2")
    assert cli("pruner=iterative", "sparsity=0.5", "logger=none", *schedule)[0] == 0
    found = [float(row["sparsity_after"]) for row in rows("rounds.csv")]
    assert [round(100 * s, 2) for s in found] == [10.00, 19.00, 27.10, 34.39, 40.95, 46.86, 52.17]
    assert [int(row["epoch"]) for row in rows("rounds.csv")] == [1, 3, 5, 7, 9, 11, 13]
    metrics = rows("metrics.csv")
    assert len(metrics) == 15
    assert [float(row["learning_rate"]) for row in metrics] == [0.001] + [0.001, 0.0005] * 7
    last = rows("rounds.csv")[-1]
    assert float(last["last_top1"]) == pytest.approx(result()["top1"])
    assert float(last["best_top1"]) == pytest.approx(result()["best_top1"])


@pytest.mark.parametrize(("target", "count", "sparsity"), [(0.75, 14, 77.12), (0.9, 22, 90.15)])
def test_rounds_go_on_until_the_target_is_passed(cli, target: float, count: int, sparsity: float) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", ["pruner=iterative", f"sparsity={target}"])
    pruning = build_pruning(cfg, None, target)
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
    for row in rows("rounds.csv"):
        assert float(row["sparsity_after"]) > 0.2
        assert float(row["sparsity_trained"]) < float(row["sparsity_after"])
    weights = load_file(only_folder() / "weights.safetensors")
    masks = load_file(only_folder() / "masks.safetensors")
    assert all(torch.equal(weights[name] != 0, mask) for name, mask in masks.items())


@pytest.mark.parametrize("pruner", ["iterative", "lottery", "std"])
def test_rounds_interrupted_go_on_bit_for_bit(cli, monkeypatch, pruner: str) -> None:
    arguments = (f"pruner={pruner}", "sparsity=0.3", "epochs=3", "logger=none", "optimizer=momentum")
    assert cli(*arguments, "name=whole")[0] == 0
    with power_cut(monkeypatch):
        assert cli(*arguments, "name=cut")[0] == 1
    assert cli(*arguments, "name=cut")[0] == 0
    cut, whole = folders()
    assert (cut / "rounds.csv").read_text() == (whole / "rounds.csv").read_text()
    for name in ("weights.safetensors", "masks.safetensors"):
        one, other = load_file(cut / name), load_file(whole / name)
        assert all(torch.equal(one[key], other[key]) for key in one)


def test_pruning_after_training(cli) -> None:
    assert cli("pruner=mag", "pruner.when=end", "compression=1", "epochs=2", "logger=none")[0] == 0
    found = result()
    assert found["kept"] == 4740
    assert found["top1_after"] == pytest.approx(found["top1"])
    assert found["top1_before"] == pytest.approx(float(rows("metrics.csv")[-1]["test_top1"]))
    assert [row["density"] for row in rows("metrics.csv")] == ["1.0", "1.0"]


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


REFUSED = [
    ("pruner=snipp", "pruner=snipp: allowed is one of .*did you mean snip"),
    ("pruner.roundss=3", r"pruner.roundss=3: .*did you mean pruner.rounds\?"),
    ("nonsense=1", "nonsense=1: allowed is"),
    ("epochs", "epochs=: .*key=value"),
    ("compression=-1", "compression=-1: allowed is a number of 0 or more"),
    ("compression=abc", "compression=abc: allowed is a number"),
    ("compression=1 sparsity=0.5", "sparsity=0.5: .*never both"),
    ("sparsity=1.2", "sparsity=1.2: allowed is a number from 0"),
    ("compression=5", "compression=5: allowed is one that keeps at least 1 of the 47400"),
    ("batch_size=0", "batch_size=0: allowed is an integer of 1 or more"),
    ("epochs=-1", "epochs=-1: allowed is an integer of 0 or more"),
    ("seed=x", "seed=x: allowed is an integer"),
    ("pruner=like", "pruner.mask_from=: allowed is the folder of a complete run"),
    (
        "pruner=like pruner.mask_from=nowhere",
        "pruner.mask_from=nowhere: allowed is the folder of a complete run",
    ),
    ("pruner=nm compression=1", "pruner.scope=2:4: allowed is neither compression nor sparsity beside it"),
    ("pruner.rewind=begin", "pruner.rewind=begin: allowed is none, init"),
    ("label_smoothing=1", "label_smoothing=1: allowed"),
    ("name=../x", "name=../x: allowed is a name"),
    ("data=folder", "data.root=.*: .*allowed is a folder"),
    ("data=folder data.root=nowhere", "data.root=nowhere: .*allowed is a folder with train/"),
    (
        "data=mnist data.root=nowhere data.download=false",
        "data.root=nowhere: .*allowed is a folder with MNIST",
    ),
    ("data.size=-1", "data.size=-1: allowed"),
    ("data.in_memory=maybe", "data.in_memory=maybe: allowed"),
    ("+model.foo=3", "model.foo=3: allowed is an argument of prunelit.training.models.*FC"),
    ("+optimizer.foo=3", "optimizer.foo=3: allowed is an argument of torch.optim.Adam"),
    ("model=vgg16", "data.size=8x8: .*vgg16; allowed is 16 or more"),
    ("model.init=xavier", "model.init=xavier: allowed .*did you mean xavier_normal"),
    ("model=mlp model.width=0", "model.width=0: allowed"),
    ("pruner.schedule=cubik", "pruner.schedule=cubik: .*did you mean cubic"),
    ("pruner.scope=tensor", "pruner.scope=tensor: allowed is one of .*global, layer"),
    ("pruner.exclude=[head]", "pruner.exclude=head: allowed is a pattern"),
    ("pruner=grasp pruner.criterion.temperature=0", "pruner.criterion.temperature=0: allowed"),
    ("trainer.accelerator=warp", "trainer.accelerator=warp: allowed is one of"),
    ("trainer.devices=0", "trainer.devices=0: allowed"),
    ("checkpoint=nowhere.ckpt", "checkpoint=nowhere.ckpt: no such file"),
    ("output_dir=/dev/null/x", "output_dir=/dev/null/x.*: .*allowed is a folder that can be written"),
]


@pytest.mark.parametrize(("arguments", "line"), REFUSED, ids=[arguments for arguments, _ in REFUSED])
def test_a_wrong_request_ends_with_2_and_one_line(cli, arguments: str, line: str) -> None:
    status, out, err = cli(*arguments.split())
    assert status == 2
    assert len(err) == 1, err
    assert re.match(line, err[0]), err[0]
    assert out == ""
    assert not list(Path().glob("**/result.json"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(cli) -> None:
    status, _, err = cli("trainer=gpu")
    assert status == 2
    assert err == ["trainer.accelerator=gpu: this machine has no GPU; allowed is cpu or auto"]


def test_a_sweep_with_one_wrong_run_does_no_work(cli) -> None:
    status, _, err = cli("-m", "compression=0.5,abc", *QUICK)
    assert status == 2
    assert err == ["compression=abc: allowed is a number of 0 or more: log10(prunable / kept)"]
    assert folders() == []


def test_a_checkpoint_of_another_network(cli, tmp_path) -> None:
    other = FC(num_classes=10, input_shape=(1, 8, 8), width=50)
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    (tmp_path / "text.ckpt").write_text("no checkpoint")
    for file, line in (
        ("other.safetensors", "fc1.weight has shape (50, 64), the network's (100, 64)"),
        ("linear.pt", "the checkpoint lacks fc1.weight"),
        ("list.pt", "it holds a list"),
        ("text.ckpt", "it cannot be read"),
    ):
        status, _, err = cli(f"checkpoint={file}", *SMALLEST)
        assert status == 2
        assert len(err) == 1
        assert err[0].startswith(f"checkpoint={file}: {line}")


class Harmful:
    def __reduce__(self):
        return (os.mkdir, ("harmed",))


def test_a_checkpoint_runs_no_code(cli, tmp_path) -> None:
    torch.save({"state_dict": {}, "x": Harmful()}, tmp_path / "bad.ckpt")
    status, _, err = cli("checkpoint=bad.ckpt", *SMALLEST)
    assert status == 2
    assert err[0].startswith("checkpoint=bad.ckpt: it cannot be read")
    assert not Path("harmed").exists()


def test_a_loss_that_becomes_nan_stops_the_run_and_names_the_layer(cli) -> None:
    status, _, err = cli("pruner=none", "optimizer=sgd", "optimizer.lr=1e30", *QUICK)
    assert status == 1
    assert any("NonFiniteLoss: the training loss is nan" in line and "layer" in line for line in err)
    (folder,) = Path("outputs/default").glob("digits*")
    told = json.loads((folder / "status.json").read_text())
    assert told["status"] == "failed"
    assert "NonFiniteLoss" in (folder / told["traceback"]).read_text()
    assert not (folder / "result.json").exists()


def test_scores_that_are_not_finite_name_the_layer(cli, tmp_path) -> None:
    weights = FC(num_classes=10, input_shape=(1, 8, 8)).state_dict()
    weights["fc3.weight"][0, 0] = float("nan")
    save_file(weights, tmp_path / "nan.safetensors")
    status, _, err = cli("pruner=mag", "checkpoint=nan.safetensors", *QUICK)
    assert status == 1
    assert any("the scores of layer fc3.weight are not finite" in line for line in err)


def test_an_interrupted_run_goes_on_where_it_stopped(cli, monkeypatch) -> None:
    """Killed in the third epoch and asked for again, it ends bit for bit as an undisturbed one."""
    assert cli("pruner=snip", "epochs=4", "logger=none", "name=whole")[0] == 0
    with power_cut(monkeypatch):
        assert cli("pruner=snip", "epochs=4", "logger=none", "name=cut")[0] == 1
    assert cli("pruner=snip", "epochs=4", "logger=none", "name=cut")[0] == 0
    cut, whole = folders()
    for name in ("weights.safetensors", "masks.safetensors"):
        one, other = load_file(cut / name), load_file(whole / name)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert json.loads((cut / "result.json").read_text())["epochs"] == 4
    assert json.loads((cut / "status.json").read_text()) == {"status": "complete"}
    assert not (cut / "traceback.txt").exists()


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
