"""Evaluate a classifier outside the Trainer's own loops: accuracy and confusion matrix."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from prunelit.pruning.preserve import modes
from prunelit.training.metrics import Totals
from prunelit.training.parallel.agreement import share_buffers
from prunelit.training.parallel.sharding import gathered
from prunelit.training.scoring.batch_transfer import transferred


@dataclass(frozen=True)
class Evaluation:
    """The results of a classifier on a set of images.

    Attributes:
        top1: accuracy in percent.
        top5: the same for the five highest outputs.
        confusion: number of images by true class (row) and predicted class (column).
    """

    top1: float
    top5: float
    confusion: Tensor


def evaluate(trainer: pl.Trainer, pl_module: pl.LightningModule, batches: Iterable[Any]) -> Evaluation:
    """Evaluate ``pl_module`` in eval mode on the ``(images, labels)`` batches of all ranks."""
    totals = Totals().to(pl_module.device)
    pairs: Tensor | None = None
    share_buffers(trainer, pl_module)
    with gathered(pl_module), modes(pl_module), torch.no_grad():
        pl_module.eval()
        for batch in batches:
            images, labels = transferred(trainer, pl_module, batch)
            logits = pl_module(images)
            totals.update(logits.new_zeros(()), logits, labels)
            classes = logits.shape[1]
            counts = torch.bincount(labels * classes + logits.argmax(1), minlength=classes**2)
            pairs = counts if pairs is None else pairs + counts
    found = totals.compute()
    assert pairs is not None, "there are no images"
    confusion = trainer.strategy.reduce(pairs, reduce_op="sum").view(classes, classes)
    return Evaluation(found["top1"], found["top5"], confusion.cpu())


def evaluate_test(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Evaluation | None:
    """Evaluate ``pl_module`` on the test set of its data module; None without one.

    ``trainer.limit_test_batches`` applies, as it does to the test at the end of a run.
    """
    datamodule = getattr(trainer, "datamodule", None)
    if datamodule is None:
        return None
    return evaluate(trainer, pl_module, limited(datamodule.test_dataloader(), trainer.limit_test_batches))


def evaluate_train(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Evaluation | None:
    """Evaluate it on the training images without augmentation; None if the data module does not provide
    them. ``trainer.limit_train_batches`` applies."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    loader = datamodule.plain_train_dataloader() if hasattr(datamodule, "plain_train_dataloader") else None
    if loader is None:
        return None
    return evaluate(trainer, pl_module, limited(loader, trainer.limit_train_batches))


def limited(loader: Any, limit: int | float | None) -> Iterable[Any]:
    """Return the batches of a loader up to a limit of the Trainer, and at least one.

    Args:
        loader: the batches. A share of them can only be taken if their number is known.
        limit: a number of batches, a share of them (1.0: all), or None (all).
    """
    every: Iterable[Any] = loader
    if limit is None or (isinstance(limit, float) and limit == 1):
        return every
    if isinstance(limit, float):
        try:
            limit = int(limit * len(loader))
        except TypeError:  # a stream, of unknown length
            return every
    return islice(loader, max(1, limit))


def accuracy_by_class(confusion: Tensor) -> Tensor:
    """Return the accuracy of each class in percent; NaN without images."""
    return 100 * confusion.diagonal().double() / confusion.sum(1).double()
