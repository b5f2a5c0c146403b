"""What trains is what is pruned, while parts of a module are frozen, thawed or take turns."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import BackboneFinetuning
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import SNIP, Karnin, Mag, Pruning, PruningWarning


def fit(module: pl.LightningModule, *callbacks: Any, epochs: int = 2) -> list[str]:
    """Train for a few epochs; return what pruning warned of."""
    torch.manual_seed(1)
    loader = DataLoader(TensorDataset(torch.randn(16, 8), torch.arange(16) % 4), 8)
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", callbacks=list(callbacks), enable_model_summary=False, **options
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainer.fit(module, loader)
    return [str(w.message) for w in caught if issubclass(w.category, PruningWarning)]


class Module(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone, self.head = nn.Sequential(nn.Linear(8, 8), nn.ReLU()), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD([p for p in self.parameters() if p.requires_grad], 0.1)


class Distilled(Module):
    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.backbone).requires_grad_(False)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return super().training_step(batch, batch_idx) + F.mse_loss(
            self.backbone(batch[0]), self.teacher(batch[0])
        )


def test_a_teacher_keeps_its_weights_and_is_named_once() -> None:
    module = Distilled()
    before = module.teacher[0].weight.clone()
    pruning = Pruning(SNIP(), sparsity=0.5, when="epoch", rounds=2)
    lines = fit(module, pruning, epochs=3)
    assert pruning.num_done == 2
    assert list(pruning.masks) == ["backbone.0.weight", "head.weight"]
    assert torch.equal(module.teacher[0].weight, before)
    assert sum("teacher.0.weight (they do not require a gradient" in line for line in lines) == 1
    trained = torch.cat([module.backbone[0].weight.flatten(), module.head.weight.flatten()])
    assert int((trained != 0).sum()) == 48


def test_a_backbone_that_thaws_after_the_pruning_is_said_to_be_dense() -> None:
    module = Module()
    pruning = Pruning(Mag(), sparsity=0.5)
    thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=2, verbose=False)
    lines = fit(module, pruning, thaw, epochs=5)
    assert list(pruning.masks) == ["head.weight"]
    (late,) = [line for line in lines if "began to train after the last pruning" in line]
    assert late.startswith("backbone.0.weight ")


def test_a_backbone_that_thaws_between_two_prunings_is_pruned_by_the_last() -> None:
    for criterion in (Mag(), Karnin()):
        module = Module()
        pruning = Pruning(criterion, sparsity=0.5, when="epoch", rounds=2, every=2, pre_epochs=1)
        thaw = BackboneFinetuning(unfreeze_backbone_at_epoch=2, verbose=False)
        lines = fit(module, thaw, pruning, epochs=6)
        assert not any("began to train" in line for line in lines)
        assert sum(int(mask.sum()) for mask in pruning.masks.values()) == 48
        assert int((module.backbone[0].weight == 0).sum()) >= int((~pruning.masks["backbone.0.weight"]).sum())


class Turns(Module):
    """The last step of each batch leaves the backbone frozen, as those of many GANs leave a discriminator."""

    automatic_optimization = False

    def pruning_loss(self, batch: Any) -> Tensor:
        return F.cross_entropy(self(batch[0]), batch[1])

    def training_step(self, batch: Any, batch_idx: int) -> None:
        for part, optimizer in zip((self.backbone, self.head), self.optimizers(), strict=True):
            for other in (self.backbone, self.head):
                other.requires_grad_(other is part)
            optimizer.zero_grad()
            self.manual_backward(self.pruning_loss(batch))
            optimizer.step()

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(part.parameters(), 0.1) for part in (self.backbone, self.head)]


def test_parts_that_train_by_turns_are_all_pruned() -> None:
    module = Turns()
    pruning = Pruning(SNIP(), sparsity=0.5, pre_epochs=1)
    lines = fit(module, pruning, epochs=3)
    assert list(pruning.masks) == ["backbone.0.weight", "head.weight"]
    assert lines == []
