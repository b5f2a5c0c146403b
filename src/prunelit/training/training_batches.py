"""Read batches of the training data to take scores on."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import lightning.pytorch as pl
import torch
from annotated_types import Ge
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch.utils.data import DataLoader, DistributedSampler, IterableDataset, RandomSampler, SequentialSampler
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.pruning.objective import Batch

DEFAULT_BATCH_SIZE = 256


@dataclass(frozen=True)
class Sample:
    """Which training data a criterion is scored on."""

    samples_per_class: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "How many images of every class are drawn by seed. Needs a data module with `scoring_batches` "
            "(prunelit's have it); from others one batch is taken."
        ),
    ] = 10
    batches: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc("How many random batches are drawn instead; both null: the whole training set."),
    ] = None
    batch_size: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc("How many images a scoring batch has; null: as many as the DataLoader's, or 256."),
    ] = None

    def __post_init__(self) -> None:
        check_fields(self)


def training_batches(trainer: pl.Trainer, sample: Sample, seed: int) -> list[Batch]:
    """Return the batches that scores are taken on, as the loaders give them."""
    datamodule: Any = getattr(trainer, "datamodule", None)
    if datamodule is not None and hasattr(datamodule, "scoring_batches"):
        size = sample.batch_size or DEFAULT_BATCH_SIZE
        per_class = sample.samples_per_class if sample.batches is None else None
        return list(datamodule.scoring_batches(per_class, sample.batches, size))
    count = sample.batches if sample.samples_per_class is None else sample.batches or 1
    return list(islice(_fresh_iterator(trainer.train_dataloader, sample.batch_size, seed), count))


def _fresh_iterator(loader: Any, batch_size: int | None, seed: int) -> Iterable[Batch]:
    """Iterate over ``loader``'s data without moving the loader's own iterator or generator.

    A map-style DataLoader with a standard sampler is read through a sibling with its own seeded
    order; anything else is iterated as it is.
    """
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        size = batch_size or loader.batch_size
        standard = (SequentialSampler, RandomSampler, DistributedSampler)
        if size is not None and isinstance(loader.sampler, standard):
            dataset: Any = loader.dataset
            order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
            return DataLoader(dataset, size, sampler=order, collate_fn=loader.collate_fn)
    if isinstance(loader, DataLoader):
        loader = copy.copy(loader)
        if isinstance(loader.generator, torch.Generator):
            loader.generator = loader.generator.clone_state()
        return loader
    if isinstance(loader, (Mapping, list, tuple)):
        return (batch for batch, _, _ in iter(CombinedLoader(loader, "max_size_cycle")))
    return loader
