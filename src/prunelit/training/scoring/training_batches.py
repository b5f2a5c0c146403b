"""Read batches of the training data to take scores on."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Annotated, Any

import lightning.pytorch as pl
import torch
from annotated_types import Ge
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    Subset,
)
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.pruning.objective import Batch
from prunelit.request import BadRequest
from prunelit.training.scoring.batch_transfer import copied

DEFAULT_BATCH_SIZE = 256


@dataclass(frozen=True)
class Sample:
    """Which training data a criterion is scored on."""

    samples_per_class: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "The number of scoring images per class, drawn by seed. Requires a data module with "
            "`scoring_batches`, such as prunelit's own. With another data module, one training "
            "batch is used."
        ),
    ] = 10
    batches: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "The number of random scoring batches, instead of `samples_per_class`. If both are null, "
            "the whole training set is used."
        ),
    ] = None
    batch_size: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc("The number of images per scoring batch. null: as in the DataLoader, or 256."),
    ] = None

    def __post_init__(self) -> None:
        check_fields(self)


def training_batches(trainer: pl.Trainer, sample: Sample, seed: int) -> list[Batch]:
    """Return the batches that scores are taken on, as the loaders give them.

    They come from the ``scoring_batches`` of the data module, or from loaders made for the purpose: the
    iterators that training reads are left alone. Call this inside
    :func:`~prunelit.training.restoring.no_trace.undisturbed`, which undoes what reading changes in samplers
    and data sets.

    Raises:
        BadRequest: there is no training data.
    """
    datamodule: Any = getattr(trainer, "datamodule", None)
    if datamodule is not None and hasattr(datamodule, "scoring_batches"):
        size = sample.batch_size or DEFAULT_BATCH_SIZE
        per_class = sample.samples_per_class if sample.batches is None else None
        return list(datamodule.scoring_batches(per_class, sample.batches, size))
    loaders = trainer.fit_loop._combined_loader
    if loaders is None:
        why = "scores are computed on batches of the training data"
        raise BadRequest("trainer.limit_train_batches", trainer.limit_train_batches, "1 or more", why)
    limits = loaders.limits or [math.inf] * len(loaders.flattened)
    reader = copy.copy(loaders)
    reader.flattened = [
        _own_loader(loader, sample, seed, limit)
        for loader, limit in zip(loaders.flattened, limits, strict=True)
    ]
    count = sample.batches if sample.samples_per_class is None else sample.batches or 1
    try:
        return [copied(batch) for batch, *_ in islice(iter(reader), count or _length_of_epoch(trainer))]
    finally:
        reader.reset()  # ends worker processes


def _length_of_epoch(trainer: pl.Trainer) -> int | None:
    """Return how many batches the training data has at most; None: it ends by itself."""
    if not math.isinf(trainer.num_training_batches):
        return int(trainer.num_training_batches)
    return trainer.max_steps if trainer.max_steps > 0 else None


class _Iterated:
    """Gives what iterating over ``loader`` gives, and none of its attributes."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[Any]:
        return iter(self.loader)


def _own_loader(loader: Any, sample: Sample, seed: int, limit: float) -> Any:
    """Return a loader of the same data as ``loader``, whose iterators share nothing with training's."""
    if not isinstance(loader, DataLoader):
        return _Iterated(loader)
    as_usual = type(loader).__iter__ is DataLoader.__iter__ and type(loader.batch_sampler) is BatchSampler
    if isinstance(loader.dataset, IterableDataset) or loader.batch_size is None or not as_usual:
        return _sibling(loader)
    if isinstance(loader.sampler, (SequentialSampler, RandomSampler, DistributedSampler)):
        return _in_random_order(loader, sample.batch_size or loader.batch_size, seed, limit)
    return _sibling(loader)


def _in_random_order(loader: DataLoader[Any], size: int, seed: int, limit: float) -> DataLoader[Any]:
    """Return a loader of the same samples in an order drawn by ``seed``, the same on every rank."""
    dataset: Any = loader.dataset
    assert loader.batch_size is not None
    fixed = isinstance(loader.sampler, SequentialSampler) or not getattr(loader.sampler, "shuffle", True)
    if fixed and limit < len(loader):  # training never sees the other samples
        seen = int(limit) * loader.batch_size * getattr(loader.sampler, "num_replicas", 1)
        dataset = Subset(dataset, range(min(len(dataset), seen)))
    workers = loader.num_workers if loader.worker_init_fn is not None else 0
    return DataLoader(
        dataset,
        size,
        sampler=RandomSampler(dataset, generator=torch.Generator().manual_seed(seed)),
        collate_fn=loader.collate_fn,
        drop_last=loader.drop_last and len(dataset) >= size,
        num_workers=workers,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context if workers else None,
    )


def _sibling(loader: DataLoader[Any]) -> DataLoader[Any]:
    """Return a copy of ``loader`` with its sampler, without its iterator and if possible without workers."""
    sibling = copy.copy(loader)
    changes: dict[str, Any] = {"_iterator": None, "persistent_workers": False}
    if not isinstance(loader.dataset, IterableDataset) and loader.worker_init_fn is None:
        changes |= {"num_workers": 0, "prefetch_factor": None, "timeout": 0}
    inner = getattr(getattr(loader.sampler, "dataset", None), "_sampler", None)
    if inner is not None and loader.batch_size is not None:  # Lightning gave each rank its share of it
        changes["sampler"] = inner
        changes["batch_sampler"] = BatchSampler(inner, loader.batch_size, loader.drop_last)
    sibling.__dict__.update(changes)  # DataLoader allows no other way to change these
    return sibling
