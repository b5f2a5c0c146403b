"""A LightningModule, loaders and a Trainer that know nothing of prunelit."""

from typing import Any

import lightning.pytorch as pl
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import Pruning


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 24),
        nn.ReLU(), nn.Linear(24, 10),
    )  # fmt: skip


class Stranger(pl.LightningModule):
    """A module that has never heard of prunelit: logs, counts and holds its network under its own name."""

    def __init__(self, net: nn.Module | None = None, optimizer=torch.optim.AdamW) -> None:
        super().__init__()
        self.backbone = net or network()
        self.accuracy = torchmetrics.classification.MulticlassAccuracy(10)
        self.make = optimizer

    def training_step(self, batch, batch_idx):
        images, labels = batch
        logits = self.backbone(images)
        self.log("accuracy", self.accuracy(logits, labels))
        return F.cross_entropy(logits, labels)

    def test_step(self, batch, batch_idx):
        self.log("test_loss", F.cross_entropy(self.backbone(batch[0]), batch[1]))

    def configure_optimizers(self):
        return self.make(self.parameters(), lr=0.05, weight_decay=0.1)


def loader(shuffle: bool = True) -> DataLoader:
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(64, 3, 8, 8, generator=generator)
    return DataLoader(
        TensorDataset(images, torch.randint(10, (64,), generator=generator)), batch_size=16, shuffle=shuffle
    )


class Batches:
    """An iterable of batches that is no torch DataLoader."""

    def __init__(self, batches) -> None:
        self.batches = list(batches)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches)


QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}
"""Options of a Trainer that computes on the CPU, prints nothing and writes nothing."""


def trainer(*callbacks: pl.Callback, **options) -> pl.Trainer:
    return pl.Trainer(callbacks=list(callbacks), **(QUIET | {"max_epochs": 2} | options))


class Watch(pl.Callback):
    """Looks at every pruned weight after every optimizer step."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning, self.steps = pruning, 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        parameters = dict(pl_module.named_parameters())
        for name, mask in self.pruning.masks.items():
            assert parameters[name][~mask].eq(0).all()
        self.steps += 1
