"""Runs that train together find what each of them finds alone."""

from __future__ import annotations

import csv
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from safetensors.torch import load_file

from prunelit.interruption import Interrupted, Interruption
from prunelit.study import identity
from prunelit.study.configs import CONFIGS
from prunelit.study.record import Record
from prunelit.train import train
from prunelit.training.module import NonFiniteLoss
from prunelit.training.packed.group import train_in_turns
from prunelit.training.packed.service import ONLY_ONE

QUICK = ("epochs=2", "logger=none", "trainer=cpu")
NETWORKS = {
    "fc": ("model=fc", "model.width=30"),
    "mlp": ("model=mlp", "model.width=30", "optimizer=momentum", "optimizer.lr=0.05", "scheduler=cosine"),
    "lenet5": ("model=lenet5", "data.size=16", "epochs=1"),
    # Of a network with BatchNorm before every activation, whose statistics each run has for itself.
    "resnet": ("model=resnet20", "model.depth=8", "optimizer=sgd", "optimizer.lr=0.003", "epochs=1"),
}
TOLERANCE = {"atol": 1e-4, "rtol": 1e-3}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def configs(*overrides: str, runs: tuple[str, ...] = ()) -> list[DictConfig]:
    """Return one config for each of ``runs``, which are overrides with spaces between them."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return [compose("config", [*QUICK, *overrides, *run.split()]) for run in runs]


def records(cfgs: list[DictConfig], folder: str) -> list[Record]:
    for cfg in cfgs:
        cfg.output_dir = folder
    return [Record(identity.folder(cfg)) for cfg in cfgs]


def train_alone(cfgs: list[DictConfig]) -> list[Record]:
    found = records(cfgs, "alone")
    for cfg in cfgs:
        train(cfg)
    return found


def train_together(cfgs: list[DictConfig], interruption: Interruption | None = None) -> list[object]:
    records(cfgs, "together")
    tasks = [partial(train, cfg) for cfg in cfgs]
    return train_in_turns(tasks, [], interruption or Interruption(), threads=1)


def rows(record: Record) -> list[dict[str, str]]:
    with (record.folder / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def assert_same(alone: Record, together: Record) -> None:
    """Compare all that two records of the same run hold; weights within rounding."""
    assert {path.name for path in alone.folder.iterdir()} == {p.name for p in together.folder.iterdir()}
    wanted, found = alone.result, together.result
    for key in ("density", "kept", "rounds", "epochs", "config_hash", "top1_before", "top1_after"):
        assert found[key] == wanted[key], key
    assert found["top1"] == pytest.approx(wanted["top1"], abs=0.6)  # two of 355 images
    assert found["test_loss"] == pytest.approx(wanted["test_loss"], rel=1e-3)
    masks = [load_file(record.folder / "masks.safetensors") for record in (alone, together)]
    assert all(torch.equal(masks[0][name], mask) for name, mask in masks[1].items())
    weights = [load_file(record.folder / "weights.safetensors") for record in (alone, together)]
    torch.testing.assert_close(weights[1], weights[0], **TOLERANCE)
    for row, other in zip(rows(alone), rows(together), strict=True):
        assert row.keys() == other.keys()
        assert (row["epoch"], row["learning_rate"]) == (other["epoch"], other["learning_rate"])
        assert float(row["train_loss"]) == pytest.approx(float(other["train_loss"]), rel=1e-3)
        assert float(row["train_top1"]) == pytest.approx(float(other["train_top1"]), abs=0.3)
    paths = [record.folder / "checkpoints" / "last.ckpt" for record in (alone, together)]
    states = [torch.load(path, weights_only=True) for path in paths]
    torch.testing.assert_close(states[1]["optimizer_states"], states[0]["optimizer_states"], **TOLERANCE)
    assert states[1]["loops"]["fit_loop"] == states[0]["loops"]["fit_loop"]
    assert states[1]["global_step"] == states[0]["global_step"]


@pytest.mark.parametrize("network", NETWORKS)
def test_runs_find_the_same_as_alone(network: str) -> None:
    runs = ("pruner=snip seed=1", "pruner=rand compression=1 seed=2")
    cfgs = configs(*NETWORKS[network], runs=runs)
    alone = train_alone(cfgs)
    train_together(cfgs)
    for record, other in zip(alone, records(cfgs, "together"), strict=True):
        assert_same(record, other)


def test_prunings_between_epochs_happen_to_each_run() -> None:
    """Rounds with rewinding, exchanges of weights, and a pruning after the training."""
    runs = (
        "pruner=lottery pruner.share=0.5 compression=0.5 epochs=3",
        "pruner=rigl pruner.grow.every=1 epochs=3",
        "pruner=mag pruner.when=end epochs=1",
    )
    cfgs = configs(*NETWORKS["mlp"], runs=runs)
    alone = train_alone(cfgs)
    train_together(cfgs)
    for record, other in zip(alone, records(cfgs, "together"), strict=True):
        assert_same(record, other)


def test_a_run_that_diverges_fails_alone(capsys) -> None:
    wild = "optimizer=sgd optimizer.lr=1e30"
    cfgs = configs(*NETWORKS["fc"], "pruner=none", runs=(f"{wild} seed=1", "optimizer=sgd", wild))
    wanted, tame = train_alone(cfgs[1:2]), records(cfgs, "together")[1]
    with pytest.raises(NonFiniteLoss) as alone:
        train_alone(cfgs[:1])
    ended = train_together(cfgs)
    assert isinstance(ended[0], NonFiniteLoss)
    assert str(ended[0]) == str(alone.value)
    assert isinstance(ended[2], NonFiniteLoss)
    assert_same(wanted[0], tame)
    assert "its loss is not finite" in capsys.readouterr().out


@pytest.mark.parametrize("batch", [5, 30])
def test_a_signal_lets_each_run_save_and_the_same_request_goes_on(batch: int, monkeypatch, capsys) -> None:
    """In the first epoch (23 batches), and in the second."""
    cfgs = configs(*NETWORKS["mlp"], runs=("pruner=snip seed=1", "pruner=rand seed=2"))
    alone = train_alone(cfgs)
    interruption = Interruption()
    steps = []

    def progressed(counts: bool = True) -> None:
        steps.append(counts)
        if len(steps) == batch:
            interruption.asked = signal.SIGTERM

    monkeypatch.setattr(interruption, "progressed", progressed)
    ended = train_together(cfgs, interruption)
    assert [type(value) for value in ended] == [Interrupted, Interrupted]
    assert not any(record.complete for record in records(cfgs, "together"))
    again = train_together(cfgs)
    assert [value["epochs"] for value in again] == [2, 2]
    assert capsys.readouterr().out.count("resumed: ") == 2
    for record, other in zip(alone, records(cfgs, "together"), strict=True):
        assert_same(record, other)


def test_runs_that_cannot_be_stacked_say_why_and_run_as_usual(capsys) -> None:
    runs = (
        "pruner=rand seed=1",
        "pruner=rand seed=2 model._target_=forked_runs.Noisy",
        "pruner=rand seed=3 trainer.gradient_clip_val=1.0",
        "pruner=rand seed=4 batch_size=32",
    )
    cfgs = configs(*NETWORKS["mlp"], "epochs=1", runs=runs)
    alone = train_alone(cfgs)
    train_together(cfgs)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("not packed: ")]
    assert sorted(line.partition(": ")[2].partition(": ")[2] for line in said) == sorted(
        [
            ONLY_ONE,
            "the network is of the class Noisy, which may keep a state",
            "gradients are clipped",
            ONLY_ONE,
        ]
    )
    for record, other in zip(alone, records(cfgs, "together"), strict=True):
        weights = [load_file(each.folder / "weights.safetensors") for each in (record, other)]
        assert all(torch.equal(weights[0][name], weight) for name, weight in weights[1].items())
