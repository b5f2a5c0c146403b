"""Masks hold in averages of weights: where they are made, where they are read, and where they are saved."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import (
    Callback,
    EMAWeightAveraging,
    ModelCheckpoint,
    StochasticWeightAveraging,
    WeightAveraging,
)
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from prunelit import Mag, Pruning
from reading import Reader, nonzero
from stock import loader, network, trainer


class OnePerEpoch(WeightAveraging):
    """Averages the weights at the end of each epoch."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return epoch_idx is not None


class OwnAverage(Callback):
    """A moving average that is no class of torch's or Lightning's: copied in for validation, and saved."""

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.average = {name: torch.randn_like(p) for name, p in pl_module.named_parameters()}

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for name, parameter in pl_module.named_parameters():
            self.average[name].lerp_(parameter.data, 0.1)

    def swap(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        for name, parameter in pl_module.named_parameters():
            parameter.data, self.average[name] = self.average[name], parameter.data

    on_validation_epoch_start = on_validation_epoch_end = on_train_end = swap

    def on_save_checkpoint(self, trainer: Any, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **self.average}


AVERAGES = {
    "moving": lambda: EMAWeightAveraging(decay=0.9),
    "moving, every 3 steps": lambda: EMAWeightAveraging(decay=0.9, update_every_n_steps=3),
    "moving, late": lambda: EMAWeightAveraging(decay=0.9, update_starting_at_epoch=2),
    "by epoch": OnePerEpoch,
    "stochastic": lambda: StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1),
    "own": OwnAverage,
}


@pytest.mark.parametrize("pruning_first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize("name", AVERAGES)
def test_averages_keep_pruned_weights_at_zero(name: str, pruning_first: bool, tmp_path: Path) -> None:
    """In the pass over all data that BatchNorm's statistics are taken in, too."""
    module, average = Reader(), AVERAGES[name]()
    pruning = Pruning(Mag(), compression=1.0, when="epoch", rounds=2)
    saving = [
        ModelCheckpoint(tmp_path, filename="whole {epoch} {step}", save_top_k=-1, every_n_train_steps=3),
        ModelCheckpoint(tmp_path, filename="weights {epoch}", save_top_k=-1, save_weights_only=True),
    ]
    callbacks = [pruning, average] if pruning_first else [average, pruning]
    run = trainer(*callbacks, *saving, max_epochs=4, enable_checkpointing=True)
    run.fit(module, loader(), loader(False))
    run.save_checkpoint(tmp_path / "end.ckpt")
    assert module.reads > 20
    assert module.violations == 0
    assert nonzero(module.named_parameters(), pruning.masks) == 0
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)
    paths = list(tmp_path.glob("*.ckpt"))
    assert len(paths) >= 9
    for path in paths:
        saved = torch.load(path, weights_only=True)
        masks = saved.get("callbacks", {}).get("prunelit.Pruning", {}).get("masks")
        masks = pruning.masks if masks is None and saved["epoch"] > 1 else masks or {}
        for weights in (saved["state_dict"], saved.get("current_model_state", {})):
            assert not weights or nonzero(weights.items(), masks) == 0, path.name


class Averaging(Reader):
    """Keeps averages of the whole network, and of one of two layers of the same shape."""

    def __init__(self) -> None:
        super().__init__(net=nn.Sequential(network(), nn.Linear(10, 10), nn.Linear(10, 10)))
        decay = get_ema_multi_avg_fn(0.9)
        self.hidden = [AveragedModel(self.backbone, multi_avg_fn=decay)]
        self.layer = AveragedModel(self.backbone[2], multi_avg_fn=decay)
        self.teacher = [network()]

    def on_train_batch_end(self, *_: Any) -> None:
        self.hidden[0].update_parameters(self.backbone)
        self.layer.update_parameters(self.backbone[2])


@pytest.mark.parametrize("part", ["", "backbone"])
def test_averages_that_a_module_keeps_itself_are_held(part: str) -> None:
    module = Averaging()
    teacher = [p.clone() for p in module.teacher[0].parameters()]
    pruning = Pruning(Mag(), sparsity=0.8, pre_epochs=1, network=part)
    trainer(pruning, max_epochs=3).fit(module, loader(), loader(False))
    assert not any(name.startswith("layer.") for name in pruning.masks)
    start = "" if part else "backbone."
    masks = {n.removeprefix(start): m for n, m in pruning.masks.items() if n.startswith(start)}
    assert nonzero(module.hidden[0].module.named_parameters(), masks) == 0
    own = {name[2:]: mask for name, mask in masks.items() if name.startswith("2.")}
    assert own
    assert nonzero(module.layer.module.named_parameters(), own) == 0
    assert module.layer.module.weight[own["weight"]].ne(0).all()
    for before, after in zip(teacher, module.teacher[0].parameters(), strict=True):
        assert torch.equal(before, after)


def test_a_resumed_run_holds_its_averages(tmp_path: Path) -> None:
    def callbacks() -> list[Callback]:
        return [Pruning(Mag(), compression=1.0, pre_epochs=1), EMAWeightAveraging(decay=0.9)]

    saving = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    straight = Reader()
    trainer(*callbacks(), saving, max_epochs=4, enable_checkpointing=True).fit(straight, loader(False))
    resumed, (pruning, average) = Reader(), callbacks()
    trainer(pruning, average, max_epochs=4).fit(
        resumed, loader(False), ckpt_path=tmp_path / "epoch=2.ckpt", weights_only=True
    )
    for one, other in zip(straight.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)
    assert nonzero(resumed.named_parameters(), pruning.masks) == 0


def test_the_density_is_that_of_the_weights_where_they_may_grow_back() -> None:
    module, pruning = Reader(), Pruning(Mag(), sparsity=0.9, masked_gradient=False)
    trainer(pruning, EMAWeightAveraging(decay=0.9), max_epochs=1).fit(module, loader())
    parameters = dict(module.named_parameters())
    held = sum(int(parameters[name].ne(0).sum()) for name in pruning.masks)
    assert pruning.current_density == held / sum(mask.numel() for mask in pruning.masks.values()) > 0.2


class MovingModule(nn.Module):
    """A moving average as timm's ``ModelEmaV2`` keeps it: a copy whose weights need gradients."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = deepcopy(model)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        for average, value in zip(self.module.parameters(), model.parameters(), strict=True):
            average.lerp_(value, 0.1)


class ModelEma(MovingModule):
    """Says by its own name what it is."""


class PlainEMA:
    """A moving average that is no module, as in YOLOX."""

    def __init__(self, model: nn.Module) -> None:
        self.keeper = MovingModule(model)
        self.module, self.update = self.keeper.module.requires_grad_(False), self.keeper.update


class Keeping(Reader):
    """Keeps an average under the name ``attribute``, and a teacher with the same weights."""

    def __init__(self, attribute: str, kind: Any) -> None:
        super().__init__()
        self.teacher = deepcopy(self.backbone).requires_grad_(False)
        self.average = lambda: getattr(self, attribute)
        setattr(self, attribute, kind(self.backbone))

    def on_train_batch_end(self, *_: Any) -> None:
        self.average().update(self.backbone)


@pytest.mark.parametrize(
    ("attribute", "kind"), [("follower", ModelEma), ("backbone_ema", MovingModule), ("follower", PlainEMA)]
)
def test_copies_whose_name_says_that_they_are_averages_are_held(attribute: str, kind: Any) -> None:
    module, pruning = Keeping(attribute, kind), Pruning(Mag(), sparsity=0.8, pre_epochs=1)
    teacher = deepcopy(module.teacher.state_dict())
    trainer(pruning, max_epochs=3).fit(module, loader(), loader(False))
    assert all(name.startswith("backbone.") for name in pruning.masks)
    own = {name.removeprefix("backbone."): mask for name, mask in pruning.masks.items()}
    assert nonzero(module.average().module.named_parameters(), own) == 0
    assert nonzero(module.named_parameters(), pruning.masks) == 0
    for name, value in module.teacher.state_dict().items():
        assert torch.equal(value, teacher[name])


class LitEMA(Reader):
    """Is named after its average, which does not make its network one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone_ema = deepcopy(self.backbone)


def test_the_network_beside_its_average_is_pruned() -> None:
    module, pruning = LitEMA(), Pruning(Mag(), sparsity=0.8)
    trainer(pruning, max_epochs=1).fit(module, loader())
    assert {name.partition(".")[0] for name in pruning.masks} == {"backbone"}
