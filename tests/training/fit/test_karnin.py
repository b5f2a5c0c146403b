"""Pruning after training, by sensitivities gathered in it: the Trainer, the record, and a power cut."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import BadRequest, Karnin, Pruning
from prunelit.study.configs import CONFIGS
from prunelit.study.identity import folder
from prunelit.train import train
from prunelit.training.module import Classifier
from prunelit.training.run import parts
from prunelit.training.run import result as results

LIST = "pruner.threshold=[0.3,0.2,0.05]"


class Plain(pl.LightningModule):
    """A network in float64, trained by SGD whose rate halves every epoch; notes its weights."""

    def __init__(self, per: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        self.per, self.rates = per, [0.0]
        self.ways = [self.weights()]

    def weights(self) -> list[Tensor]:
        return [self.layers[0].weight.detach().clone(), self.layers[2].weight.detach().clone()]

    def note(self) -> None:
        self.ways.append(self.weights())
        self.rates.append(0.2 * 0.5**self.current_epoch)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.layers(batch[0]), batch[1])

    def on_train_batch_end(self, *_: Any) -> None:
        if self.per == "step":
            self.note()

    def on_train_epoch_end(self) -> None:
        if self.per == "epoch":
            self.note()

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.2, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)]

    def sensitivities(self) -> list[Tensor]:
        """The formula, term by term, from the weights noted."""
        found = []
        for index, (first, last) in enumerate(zip(self.ways[0], self.ways[-1], strict=True)):
            total = torch.zeros_like(first)
            for n in range(1, len(self.ways)):
                total += (self.ways[n][index] - self.ways[n - 1][index]) ** 2 / self.rates[n]
            found.append(total * last / (last - first))
        return [(s - s.min()) / (s.max() - s.min()) for s in found]


@pytest.mark.parametrize(("per", "times"), [("step", 12), ("epoch", 3)])
def test_scores_are_the_formula_of_the_weights_on_their_way(per: str, times: int) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(32, 6, dtype=torch.float64, generator=generator)
    data = TensorDataset(images, torch.randint(3, (32,), generator=generator))
    pruning = Pruning(Karnin(per), threshold=0.45, when="end")
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=[pruning], **quiet)
    module = Plain(per)
    trainer.fit(module, DataLoader(data, batch_size=8))
    assert len(module.ways) == times + 1
    assert pruning.outcome is not None
    for name, expected in zip(pruning.masks, module.sensitivities(), strict=True):
        assert torch.allclose(pruning.outcome.scores[name], expected, rtol=1e-9)
        assert torch.equal(pruning.masks[name], expected >= 0.45)
        assert module.get_parameter(name)[expected < 0.45].eq(0).all()


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    """Do a run of the program in this process and return its folder."""

    def call(*overrides: str) -> Path:
        with initialize_config_dir(str(CONFIGS), version_base="1.3"):
            common = ["pruner=karnin", "logger=none", "epochs=2", f"output_dir={tmp_path}"]
            cfg = compose("config", [*common, *overrides])
        train(cfg)
        return folder(cfg)

    return call


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def result(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "result.json").read_text())
    return found


def test_a_list_of_thresholds_is_tried_on_one_network_and_the_first_holds(run) -> None:
    several = run(LIST)
    tried = read_rows(several / "thresholds.csv")
    assert [float(row["threshold"]) for row in tried] == [0.3, 0.2, 0.05]
    for row, threshold in zip(tried, (0.3, 0.2, 0.05), strict=True):
        alone = run(f"pruner.threshold={threshold}")
        found, layers = result(alone), read_rows(alone / "layers.csv")
        assert float(row["sparsity"]) == pytest.approx(found["sparsity"])
        assert (float(row["top1"]), float(row["top5"])) == (found["top1"], found["top5"])
        removed = {f"removed/{layer['layer']}": int(layer["total"]) - int(layer["kept"]) for layer in layers}
        assert {key: int(row[key]) for key in removed} == removed
        assert not (alone / "thresholds.csv").exists()
        if threshold == 0.3:
            same(several, alone)


def test_the_record_tells_before_from_after(run) -> None:
    """Without retraining, the test gives the accuracy after the pruning, the last epoch the one before."""
    pruned = run("pruner.threshold=0.3")
    found, details = result(pruned), np.load(pruned / "details.npz")
    assert found["top1"] == found["top1_after"]
    assert found["best_top1"] is None, "no epoch had the final density"
    assert float(read_rows(pruned / "metrics.csv")[-1]["test_top1"]) == found["top1_before"]
    for name, top1 in (("test", found["top1"]), ("test_before", found["top1_before"])):
        confusion = details[f"confusion/{name}"]
        assert confusion.sum() == 355
        assert 100 * confusion.trace() / confusion.sum() == pytest.approx(top1)
    assert details["confusion/train"].sum() == 1797 - 355
    before = details["confusion/test_before"]
    assert details["accuracy_by_class_before"] == pytest.approx(100 * before.diagonal() / before.sum(1))
    assert details["accuracy_by_class"].shape == (10,)
    assert not np.array_equal(before, details["confusion/test"])


def test_checkpoints_of_a_run_that_ends_in_a_pruning_are_of_the_pruned_network(run) -> None:
    pruned = run("pruner.threshold=0.3")
    weights = load_file(pruned / "weights.safetensors")
    for name in ("last", "best"):
        content = torch.load(pruned / "checkpoints" / f"{name}.ckpt", weights_only=True)
        assert all(torch.equal(content["state_dict"][key], weights[key]) for key in weights)
        assert set(content["callbacks"]["prunelit.Pruning"]["masks"]) < set(weights)


def test_uniform_sensitivities_lose_the_share_that_the_threshold_says(run) -> None:
    """On one trained network: 57,400 of them, so that 3 standard deviations are 0.6 %."""
    drawn = read_rows(run("pruner.criterion=rand", "pruner.threshold=[0.45,0.21,0.01]") / "thresholds.csv")
    for row in drawn:
        assert float(row["sparsity"]) == pytest.approx(float(row["threshold"]), abs=0.0065)


def test_only_the_layers_named_are_pruned(run) -> None:
    found = run("pruner.only=[fc2,fc3]", "pruner.criterion=rand")
    assert [row["layer"] for row in read_rows(found / "layers.csv")] == ["fc2.weight", "fc3.weight"]
    assert result(found)["prunable"] == 20000
    assert load_file(found / "weights.safetensors")["fc1.weight"].ne(0).all()


def test_without_training_every_weight_is_kept(run) -> None:
    found = run("epochs=0")
    assert result(found)["density"] == 1
    assert result(found)["top1"] == result(found)["top1_before"]


def same(one: Path, other: Path) -> None:
    for name in ("weights.safetensors", "masks.safetensors"):
        first, second = load_file(one / name), load_file(other / name)
        assert all(torch.equal(first[key], second[key]) for key in first)


def power_cut(*_: Any) -> None:
    raise RuntimeError("power cut")


@pytest.mark.parametrize(
    ("per", "moment"),
    [
        *(("step", "training"), ("step", "after training"), ("step", "after pruning"), ("epoch", "training")),
        *(pytest.param("epoch", f"after {what}", marks=pytest.mark.slow) for what in ("training", "pruning")),
    ],
)
def test_a_run_that_was_cut_short_ends_as_any_other(run, monkeypatch, per: str, moment: str) -> None:
    how = (f"pruner.criterion.per={per}", LIST)
    whole = run(*how, "name=whole")
    step = Classifier.training_step

    def broken(self: Classifier, batch: Any, batch_idx: int) -> Tensor:
        if self.current_epoch == 1 and batch_idx == 3:
            power_cut()
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        if moment == "training":
            patch.setattr(Classifier, "training_step", broken)
        elif moment == "after training":
            patch.setattr(parts, "save_again", power_cut)
        else:
            patch.setattr(results, "test_result", power_cut)
        with pytest.raises(RuntimeError, match="power cut"):
            run(*how, "name=cut")
    cut = run(*how, "name=cut")
    same(whole, cut)
    for name in ("thresholds.csv", "rounds.csv"):
        assert (whole / name).read_text() == (cut / name).read_text()
    one, other = np.load(whole / "details.npz"), np.load(cut / "details.npz")
    assert set(one) == set(other)
    assert all(np.array_equal(one[key], other[key], equal_nan=one[key].dtype.kind == "f") for key in one)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": []}, r"^threshold=\[\]: "),
        ({"threshold": [0.1, "high"]}, r"^threshold=\[0\.1, 'high'\]: "),
        ({"threshold": [0.1, 0.2], "when": "epoch"}, r"^threshold=\[0\.1, 0\.2\]: "),
        ({"threshold": [0.1, 0.2], "rounds": 2}, r"^threshold=\[0\.1, 0\.2\]: "),
    ],
)
def test_wrong_thresholds(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Pruning(Karnin(), **options)


def test_an_unknown_criterion_is_refused_by_name(run) -> None:
    with pytest.raises(BadRequest, match=r"^pruner\.criterion=synflw: .*\bsynflow\?"):
        run("pruner.criterion=synflw")
