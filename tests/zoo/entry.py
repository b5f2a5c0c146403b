"""What an entry of the zoo says of its module, and the data that several entries train on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Any

import lightning.pytorch as pl
import torch
from torch import nn
from torch.utils.data import DataLoader, Sampler, TensorDataset

NUM_CLASSES = 4
BY_HAND = "uses manual optimization"
"""Why a module with manual optimization and without ``pruning_loss`` has no scores that need a loss."""
IN_PARTS = dict.fromkeys(("SynFlow", "L1Filter", "L2Filter", "FPGM", "BNScale"), "no single call")
"""Why a flow through the network has no beginning: the step calls the parts of the module one by one."""
NO_SOFTMAX = {"GraSP": {"temperature": 1}}
"""What a loss needs that takes no softmax of the outputs, which a temperature could divide."""


@dataclass(frozen=True)
class Entry:
    """One module of the zoo.

    Attributes:
        name: of the module's class.
        module: makes the module.
        prunable: shell-style patterns; the parameters that match one are those that a default
            ``Pruning`` prunes, no more and no fewer.
        loaders: makes what ``Trainer.fit`` takes as training data.
        refuses: the criteria that cannot apply, each with a pattern of the one-line error.
        options: arguments of ``Pruning`` that the module needs.
        trainer: arguments of ``Trainer`` that the module needs.
        arguments: of a criterion, by its name, that the module needs.
        same_masks_as: a module that is pruned alike before training.
        not_resumable: why a resumed run differs from an uninterrupted one even without pruning.
    """

    name: str
    module: Callable[[], pl.LightningModule]
    prunable: tuple[str, ...]
    loaders: Callable[[], Any]
    refuses: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    trainer: Mapping[str, Any] = field(default_factory=dict)
    arguments: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    same_masks_as: Callable[[], pl.LightningModule] | None = None
    not_resumable: str = ""

    def make(self) -> pl.LightningModule:
        """Return the module with its weights drawn from one seed."""
        torch.manual_seed(0)
        return self.module()

    def is_prunable(self, name: str) -> bool:
        """Whether the parameter ``name`` is to be pruned."""
        return any(fnmatchcase(name, pattern) for pattern in self.prunable)


ENTRIES: dict[str, Entry] = {}


def member(*prunable: str, loaders: Callable[[], Any] | None = None, **facts: Any) -> Callable[[type], type]:
    """Add a module class to the zoo."""

    def add(cls: type) -> type:
        ENTRIES[cls.__name__] = Entry(cls.__name__, cls, prunable, loaders or images, **facts)
        return cls

    return add


class Trained(pl.LightningModule):
    """What most entries share: SGD with momentum and weight decay, which move pruned weights unless held."""

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.05, momentum=0.9, weight_decay=0.01)


def mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers with ReLU between them, after a flatten."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class ByEpoch(Sampler[int]):
    """Another order each epoch, the same for a resumed run: the Trainer calls ``set_epoch``."""

    def __init__(self, size: int) -> None:
        self.size, self.epoch = size, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Any:
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.epoch))
        return iter(order.tolist())


def drawn(*shape: int) -> torch.Tensor:
    """Return a tensor of normal numbers, the same each time."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def labels(size: int = 12) -> torch.Tensor:
    """Return class numbers in turn."""
    return torch.arange(size) % NUM_CLASSES


def loader_of(*tensors: Any, batch_size: int = 4, **options: Any) -> DataLoader:
    """Return a loader of tuples in an order of their own each epoch."""
    data = TensorDataset(*tensors)
    return DataLoader(data, batch_size=batch_size, sampler=ByEpoch(len(data)), **options)


def images() -> DataLoader:
    """Return three batches of four images of one channel and 8 x 8 pixels, with their classes."""
    return loader_of(drawn(12, 1, 8, 8), labels())


def tokens() -> DataLoader:
    """Return sequences of six words out of ten, a mask of those that count, and classes."""
    words = torch.randint(10, (12, 6), generator=torch.Generator().manual_seed(1))
    valid = torch.ones(12, 6, dtype=torch.bool)
    valid[::2, 4:] = False
    return loader_of(words, valid, labels())
