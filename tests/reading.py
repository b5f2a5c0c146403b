"""A module that counts, at each read of its network, the pruned weights that are not 0."""

from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.nn import functional as F

from prunelit import Pruning
from prunelit.pruning.masks import attached
from stock import Stranger


def nonzero(parameters: Any, masks: dict[str, torch.Tensor]) -> int:
    """Return how many of the weights that ``masks`` prune are not 0."""
    named = dict(parameters)
    return sum(int(named[name].cpu()[~mask.cpu()].ne(0).sum()) for name, mask in masks.items())


class Reader(Stranger):
    """Looks at its weights in each forward pass of its network, in training, validation and tests."""

    def __init__(self, optimizer: Any = torch.optim.AdamW, net: nn.Module | None = None) -> None:
        super().__init__(net, optimizer)
        self.reads = self.violations = 0

    def network_call(self, images: torch.Tensor) -> torch.Tensor:
        look = self.backbone[0].register_forward_pre_hook(self.look)
        try:
            return self.backbone(images)
        finally:
            look.remove()

    def look(self, *_: Any) -> None:
        masks = attached(self)
        if masks:
            self.reads += 1
            self.violations += nonzero(self.named_parameters(), masks)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self.network_call(batch[0]), batch[1])

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("loss", F.cross_entropy(self.network_call(batch[0]), batch[1]))

    test_step = validation_step

    def predict_step(self, batch: Any, batch_idx: int = 0) -> torch.Tensor:
        return self.network_call(batch[0])

    def configure_optimizers(self) -> Any:
        return self.make(self.parameters(), lr=0.05)


class Clipping(Reader):
    """Moves and clips its weights after each batch, through ``data``."""

    def on_train_batch_end(self, *_: Any) -> None:
        for parameter in self.parameters():
            parameter.data.add_(0.01).clamp_(-0.5, 0.5)


class Look(pl.Callback):
    """Looks at pruned weights once each callback has done its work."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning, self.violations, self.looks = pruning, 0, 0

    def on_before_zero_grad(self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Any) -> None:
        self.look(trainer, pl_module)

    def look(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        self.looks += 1
        self.violations += nonzero(pl_module.named_parameters(), self.pruning.masks)

    on_train_batch_end = look
