"""Masks hold: in every step of every optimizer, through checkpoints, resumes, copies and tests."""

import copy
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch.nn import functional as F

from prunelit import SNIP, Mag, Pruning, Rand, SynFlow, prune
from prunelit.pruning.masks import attached, count_all, digest
from prunelit.study.configs import CONFIGS
from prunelit.training.run.from_config import build_optimizer
from stock import Batches, Stranger, Watch, loader, network, trainer

OPTIMIZERS = sorted((CONFIGS / "optimizer").glob("*.yaml"))


@pytest.mark.parametrize("path", OPTIMIZERS, ids=lambda path: path.stem)
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_clip_val": 0.1},
        {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5, "gradient_clip_algorithm": "value"},
        {"precision": "bf16-mixed", "gradient_clip_val": 0.1},
        {"precision": "bf16-true"},
    ],
    ids=["clipped", "accumulated", "bf16-mixed", "bf16-true"],
)
def test_pruned_weights_are_exactly_zero_after_every_step(path: Path, options: dict) -> None:
    trained = {"precision": "32-true", "gradient_clip_val": None} | options
    config = OmegaConf.create({"optimizer": OmegaConf.load(path), "trainer": trained})
    config.optimizer.lr, config.optimizer.weight_decay = 0.05, 0.1
    if "momentum" in config.optimizer:
        config.optimizer.momentum = 0.9
    pruning = Pruning(Mag(), compression=0.5)
    watch = Watch(pruning)
    module = Stranger(optimizer=lambda parameters, **_: build_optimizer(config, parameters))
    trainer(pruning, watch, **options).fit(module, loader())
    assert watch.steps == 8
    assert sum(int((p == 0).sum()) for p in module.parameters()) >= count_all(pruning.masks) * 0.68


def test_momentum_gathered_before_the_pruning_moves_no_pruned_weight() -> None:
    pruning = Pruning(Mag(), compression=1, pre_epochs=1)
    watch = Watch(pruning)
    module = Stranger(optimizer=lambda p, **_: torch.optim.SGD(p, 0.1, momentum=0.9, nesterov=True))
    trainer(pruning, watch, max_epochs=3).fit(module, loader())
    assert watch.steps == 12
    assert pruning.current_density == pytest.approx(0.1, abs=1e-3)


class Multiplied(nn.Module):
    """A layer whose forward multiplies its weight by a mask."""

    def __init__(self, layer: nn.Module, mask: torch.Tensor) -> None:
        super().__init__()
        self.layer, self.mask = layer, mask

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weight = self.layer.weight * self.mask
        if isinstance(self.layer, nn.Linear):
            return F.linear(x, weight, self.layer.bias)
        return F.conv2d(x, weight, self.layer.bias)


def test_training_equals_a_network_whose_forward_multiplies_by_the_mask() -> None:
    """Same start, same data, same optimizer with weight decay and clipping: the same kept weights."""
    module = Stranger(network().double(), optimizer=torch.optim.SGD)
    pruning = Pruning(SynFlow(), compression=0.5)
    data = loader(shuffle=False)
    data = Batches((images.double(), labels) for images, labels in data)
    trainer(pruning, max_epochs=0).fit(module, data)
    other = copy.deepcopy(module.backbone)
    for index in (0, 4, 6):
        other[index] = Multiplied(other[index], pruning.masks[f"backbone.{index}.weight"])
    options = {"max_epochs": 3, "gradient_clip_val": 0.2}
    trainer(pruning, **options).fit(module, data)
    trainer(**options).fit(reference := Stranger(other, torch.optim.SGD), data)
    for index in (0, 4, 6):
        mask = pruning.masks[f"backbone.{index}.weight"]
        ours = module.backbone[index].weight[mask]
        assert torch.allclose(ours, reference.backbone[index].layer.weight[mask], rtol=1e-10, atol=1e-12)


def test_clipping_counts_kept_weights_only() -> None:
    """The gradient norm that clipping sees leaves out pruned weights."""
    norms = []

    class Look(Stranger):
        def configure_gradient_clipping(
            self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None
        ):
            masks = pruning.masks
            for name, p in self.named_parameters():
                if name in masks:
                    norms.append(float(p.grad[~masks[name]].norm()))

    pruning = Pruning(Rand(), compression=0.5)
    trainer(pruning, gradient_clip_val=1.0).fit(Look(), loader())
    assert norms
    assert max(norms) == 0


def test_checkpoint_resume_and_test_keep_masks_and_names(tmp_path: Path) -> None:
    names = list(Stranger().state_dict())
    pruning = Pruning(SNIP(), compression=1.0, seed=3)
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="saved")
    module = Stranger()
    trainer(pruning, saving, enable_checkpointing=True).fit(module, loader())
    path = tmp_path / "saved.ckpt"
    content = torch.load(path, weights_only=True)
    assert list(content["state_dict"]) == names
    Stranger().load_state_dict(content["state_dict"], strict=True)
    plain = {name.removeprefix("backbone."): v for name, v in content["state_dict"].items()}
    network().load_state_dict({k: v for k, v in plain.items() if "accuracy" not in k}, strict=True)

    resumed, again = Stranger(), Pruning(SNIP(), compression=1.0, seed=4)
    watch = Watch(again)
    trainer(again, watch, max_epochs=4).fit(resumed, loader(), ckpt_path=path, weights_only=True)
    assert digest(again.masks) == digest(pruning.masks), "a resumed run must not prune anew"
    assert watch.steps == 8

    before = copy.deepcopy(resumed.state_dict())
    trainer(again).test(resumed, loader(False), verbose=False)
    for name, value in resumed.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_deep_copy_keeps_its_masks_and_a_second_pruning_only_shrinks_them() -> None:
    first = Pruning(Mag(), compression=0.3)
    module = Stranger()
    trainer(first).fit(module, loader())
    twin = copy.deepcopy(module)
    second = Pruning(Rand(), compression=1.0)
    trainer(second, Watch(second)).fit(twin, loader())
    assert second.current_density == pytest.approx(0.1, abs=1e-3)
    for name, mask in second.masks.items():
        assert not (mask & ~first.masks[name]).any()
    assert attached(module) is not attached(twin)


def test_a_best_checkpoint_is_of_the_final_density(tmp_path: Path) -> None:
    """The dense epoch scores best; the best checkpoint must still be a pruned one."""

    class Scored(Stranger):
        def on_train_epoch_end(self):
            self.log("score", 100.0 - self.current_epoch)

    best = pl.callbacks.ModelCheckpoint(tmp_path, monitor="score", mode="max")
    pruning = Pruning(Mag(), compression=1.0, pre_epochs=1)
    trainer(pruning, best, max_epochs=3, enable_checkpointing=True).fit(Scored(), loader())
    weights = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    for name, mask in pruning.masks.items():
        assert weights[name][~mask].eq(0).all()
    assert best.best_model_score == 99


def test_pruning_during_training_saves_no_pruned_weights_under_a_dense_accuracy(tmp_path: Path) -> None:
    saving = pl.callbacks.ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    pruning = Pruning(Mag(), compression=1.0, pre_epochs=1)
    trainer(pruning, saving, max_epochs=2, enable_checkpointing=True).fit(Stranger(), loader())
    dense = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)["state_dict"]
    assert dense["backbone.4.weight"].ne(0).all()


def test_prune_without_lightning_then_train_with_the_callback_keeps_the_masks() -> None:
    module = Stranger()
    outcome = prune(module, Mag(), 0.2)
    pruning = Pruning(Rand(), sparsity=0.8)
    trainer(pruning, Watch(pruning)).fit(module, loader())
    assert digest(pruning.masks) == digest(outcome.masks)
