"""Scoring leaves no trace: with compression 0, a run is bit for bit the run without the callback."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from lightning.pytorch.utilities import CombinedLoader
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)

from prunelit import SNIP, GraSP, Mag, Rand, SynFlow
from same_run import assert_same_run
from stock import Batches, Stranger, loader
from traces import (
    Buffers,
    ByHand,
    Containers,
    Hooked,
    Loaders,
    Metrics,
    Plain,
    Randomness,
    Teacher,
    batches,
    data,
)


@pytest.mark.parametrize(
    "criterion", [Rand(), Mag(), SNIP(), GraSP(), SynFlow()], ids=lambda c: type(c).__name__
)
def test_every_kind_of_criterion(criterion) -> None:
    assert_same_run(lambda: (Stranger(), loader()), criterion)


@pytest.mark.parametrize("criterion", [SNIP(), SynFlow()], ids=lambda c: type(c).__name__)
@pytest.mark.parametrize("kind", [Containers, Randomness, Buffers, Metrics, Hooked, Teacher, ByHand])
def test_what_a_training_step_changes(kind, criterion) -> None:
    network = "net" if kind in (Teacher, Buffers) else ""
    for options in ({"train_mode": True, "batches": 3}, {"pre_epochs": 1, "batches": 2}):
        assert_same_run(lambda: (kind(), batches()), criterion, network, options)


class Noted(Sampler):
    """Counts, shuffles by a generator of its own and keeps the place where it is."""

    def __init__(self) -> None:
        self.generator, self.epoch, self.random = torch.Generator().manual_seed(2), 0, random.Random(4)
        self.order = []

    def __len__(self) -> int:
        return 32

    def __iter__(self):
        self.epoch += 1
        self.order = torch.randperm(32, generator=self.generator).tolist()
        self.random.shuffle(self.order)
        while self.order:
            yield self.order.pop()
        self.order = []


class Augmented(Dataset):
    """Counts its calls, keeps what it made, and changes images at random by three generators."""

    def __init__(self) -> None:
        self.data, self.calls, self.cache, self.noise = data(), 0, {}, np.random.default_rng(0)

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int):
        self.calls += 1
        image, label = self.data[index]
        shift = random.random() + np.random.rand() + float(torch.rand(())) + self.noise.random()
        image = self.cache.setdefault(index, image + shift) + self.calls / 1000
        return image, label


class Stream(IterableDataset):
    """Yields samples from a generator that it holds, and counts them."""

    def __init__(self, endless: bool = False) -> None:
        self.count, self.data = 0, data()
        self.source = (self.data[i % 32] for i in range(10**6 if endless else 64))

    def __iter__(self):
        for _ in range(32):
            self.count += 1
            try:
                yield next(self.source)
            except StopIteration:
                return


class Collate:
    """Counts its batches."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, samples):
        self.count += 1
        images, labels = zip(*samples, strict=True)
        return torch.stack(images) * self.count, torch.stack(labels)


class Worked(DataLoader):
    """Changes each batch in its own ``__iter__``."""

    def __iter__(self):
        for images, labels in super().__iter__():
            yield 2 * images, labels


class Itself:
    """An iterable that is its own iterator, with its place as an attribute."""

    def __init__(self) -> None:
        self.batches, self.place = list(batches(shuffle=False)), 0

    def __iter__(self):
        return self

    def __next__(self):
        self.place += 1
        if self.place % 5 == 0:
            raise StopIteration
        return self.batches[self.place % 4]


class Around:
    """An iterable around a loader with workers that persist."""

    def __init__(self) -> None:
        self.loader = batches(num_workers=1, persistent_workers=True)

    def __iter__(self):
        yield from self.loader


def weighted(**options) -> WeightedRandomSampler:
    return WeightedRandomSampler(torch.ones(32), 32, **options)


def seeded(seed: int = 5) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def seed_worker(number: int) -> None:
    np.random.seed(torch.initial_seed() % 2**32)


LOADERS = {
    "shuffled by a generator": lambda: batches(generator=seeded()),
    "two workers": lambda: batches(num_workers=2, generator=seeded()),
    "persistent workers": lambda: batches(num_workers=1, persistent_workers=True),
    "persistent workers and weights": lambda: batches(
        sampler=weighted(), shuffle=None, num_workers=1, persistent_workers=True
    ),
    "workers with an init function": lambda: batches(num_workers=1, worker_init_fn=seed_worker),
    "weights": lambda: batches(sampler=weighted(generator=seeded()), shuffle=None),
    "a subset": lambda: batches(sampler=SubsetRandomSampler(range(24), seeded()), shuffle=None),
    "a sampler with state": lambda: batches(sampler=Noted(), shuffle=None),
    "a batch sampler": lambda: DataLoader(data(), batch_sampler=BatchSampler(Noted(), 8, False)),
    "batches of indices": lambda: DataLoader(
        data(), batch_size=None, sampler=BatchSampler(RandomSampler(data(), generator=seeded()), 8, False)
    ),
    "a data set with state": lambda: DataLoader(Augmented(), 8, shuffle=True),
    "a data set with state and weights": lambda: DataLoader(Augmented(), 8, sampler=weighted()),
    "a stream": lambda: DataLoader(Stream(), 8),
    "an endless stream": lambda: DataLoader(Stream(endless=True), 8),
    "a stream with workers": lambda: DataLoader(Stream_without_source(), 8, num_workers=1),
    "a collate function with state": lambda: batches(collate_fn=Collate()),
    "a loader with an iteration of its own": lambda: Worked(data(), 8, shuffle=True),
    "an iterable": lambda: Batches(batches(shuffle=False)),
    "an iterator": Itself,
    "a generator": lambda: (batch for batch in list(batches(shuffle=False)) * 2),
    "an iterable around a loader": Around,
}


class Stream_without_source(IterableDataset):
    def __iter__(self):
        yield from data()


@pytest.mark.parametrize("name", LOADERS)
def test_what_gives_the_batches(name: str) -> None:
    options = {"limit_train_batches": 4} if "endless" in name else {}
    assert_same_run(lambda: (Plain(), LOADERS[name]()), pruning={"batches": 3}, **options)


@pytest.mark.parametrize("mode", ["min_size", "max_size_cycle", "max_size"])
def test_several_loaders_at_once(mode: str) -> None:
    def make():
        parts = {"a": batches(sampler=Noted(), shuffle=None), "b": batches(batch_size=16, generator=seeded())}
        return Loaders(), CombinedLoader(parts, mode)

    assert_same_run(make, pruning={"batches": 3})


@pytest.mark.parametrize("kind", [list, dict])
def test_collections_of_loaders(kind) -> None:
    def make():
        parts = [batches(generator=seeded()), batches(sampler=weighted(), shuffle=None)]
        return Loaders(), parts if kind is list else dict(zip("ab", parts, strict=True))

    assert_same_run(make, pruning={"batches": 3})


@pytest.mark.parametrize(
    "options",
    [
        {"overfit_batches": 2},
        {"limit_train_batches": 2},
        {"limit_train_batches": 0.5},
        {"reload_dataloaders_every_n_epochs": 1},
        {"accumulate_grad_batches": 3},
    ],
    ids=str,
)
def test_options_of_the_trainer(options: dict) -> None:
    assert_same_run(lambda: (Containers(), batches(generator=seeded())), **options)
