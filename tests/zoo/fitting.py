"""Train an entry of the zoo with a Trainer, and look at its weights wherever they are read."""

from __future__ import annotations

import inspect
import random
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from prunelit import Pruning
from prunelit.pruning import criteria
from prunelit.pruning.criteria import Criterion
from prunelit.training.fit import timing
from stock import trainer
from zoo.entry import Entry

SPARSITY = 0.5
CRITERIA: dict[str, type[Criterion]] = {
    name: found
    for name, found in inspect.getmembers(criteria, inspect.isclass)
    if issubclass(found, Criterion) and not inspect.isabstract(found)
}
MOMENTS = tuple(timing.MOMENTS)
NEEDS_TRAINING = {"Karnin": {"start": {"pre_epochs": 1}}}
"""What a criterion's moment needs: scores gathered in training are equal before any."""


class Seeds(pl.Callback):
    """Seeds every batch by its number, so that a resumed run draws what an uninterrupted one does."""

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        seed = 100 * trainer.current_epoch + batch_idx
        torch.manual_seed(seed)
        np.random.seed(seed)
        random.seed(seed)


class Saving(pl.Callback):
    """Saves a checkpoint at the end of each epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.folder / f"{trainer.current_epoch}.ckpt")


class Watch(pl.Callback):
    """Asserts that pruned weights are 0 after every forward pass of a layer, batch and epoch."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning, self.looks = pruning, 0
        self._names: dict[int, str] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._hook = register_module_forward_hook(self._after_forward)

    def on_after_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Note which parameters have a mask."""
        named = dict(self.pruning.network(pl_module).named_parameters(remove_duplicate=False))
        self._names = {id(named[name]): name for name in self.pruning.masks}

    def _after_forward(self, module: nn.Module, args: Any, output: Any) -> None:
        for parameter in module._parameters.values():
            self.check(parameter)

    def check(self, parameter: nn.Parameter | None) -> None:
        name = self._names.get(id(parameter))
        if parameter is not None and name in self.pruning.masks:
            assert not parameter[~self.pruning.masks[name]].any(), name
            self.looks += 1

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        for parameter in pl_module.parameters():
            self.check(parameter)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.on_train_batch_end(trainer, pl_module)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._hook.remove()


def pruning_for(entry: Entry, criterion: str, moment: str, **options: Any) -> Pruning:
    """Return the callback that an entry is pruned with, on one batch."""
    needed = NEEDS_TRAINING.get(criterion, {}).get(moment, {})
    options = {"samples_per_class": None, "batches": 1, "when": moment, **needed, **entry.options, **options}
    if "compression" not in options:
        options["sparsity"] = SPARSITY
    return Pruning(CRITERIA[criterion](**entry.arguments.get(criterion, {})), **options)


def fit(
    entry: Entry, *callbacks: pl.Callback, epochs: int = 2, ckpt_path: str | None = None, **options: Any
) -> tuple[pl.LightningModule, pl.Trainer]:
    """Train a fresh module of the entry on fresh loaders."""
    module, loaders = entry.make(), entry.loaders()
    runner = trainer(Seeds(), *callbacks, max_epochs=epochs, **{**entry.trainer, **options})
    runner.fit(module, loaders, ckpt_path=ckpt_path)
    return module, runner
