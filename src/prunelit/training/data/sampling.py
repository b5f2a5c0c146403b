"""Which images, in which order: draws depend on the seed and the epoch, never on global random state."""

from __future__ import annotations

import enum
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor


class Purpose(enum.IntEnum):
    """The purpose of a generator, so that two purposes never share their random numbers."""

    ORDER = 1
    AUGMENT = 2
    VALIDATION = 3
    SCORING = 4
    TEST = 5


def generator(purpose: Purpose, seed: int, epoch: int = 0) -> torch.Generator:
    """A CPU generator that only depends on its three arguments."""
    mixed = np.random.SeedSequence((int(purpose), seed, epoch)).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(mixed[0]))


class EpochSampler:
    """The images of one rank in one epoch.

    Shuffled (training): a permutation by (seed, epoch), distributed to the ranks in turn and wrapped around,
    so that every rank has the same number. Not shuffled (testing): the images in order, each exactly once
    over all ranks.

    Args:
        size: the number of images over all ranks.
        seed: the seed of the run.
        shuffle: whether this is a training set.
        rank: this process among ``world_size``.
        world_size: number of processes that share the epoch.
    """

    def __init__(self, size: int, seed: int, *, shuffle: bool, rank: int = 0, world_size: int = 1) -> None:
        assert 0 <= rank < world_size
        self.size, self.seed, self.shuffle = size, seed, shuffle
        self.rank, self.world_size = rank, world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is drawn next; Lightning calls it before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Number of images of this rank in an epoch."""
        return len(self.positions())

    def positions(self) -> Tensor:
        """The positions (int64) of this rank in the sequence of the epoch over all ranks."""
        end = -(-self.size // self.world_size) * self.world_size if self.shuffle else self.size
        return torch.arange(self.rank, end, self.world_size) % max(self.size, 1)

    def order(self) -> Tensor:
        """This rank's image numbers (int64) in the order of the epoch."""
        positions = self.positions()
        if not self.shuffle:
            return positions
        return torch.randperm(self.size, generator=generator(Purpose.ORDER, self.seed, self.epoch))[positions]

    def batch_sizes(self, batch_size: int) -> list[int]:
        """The sizes of this rank's batches, with the same number of batches on every rank.

        If a rank would have one batch less than the others, its last batch is split in two, because the
        others would otherwise wait for it.
        """
        count = len(self)
        sizes = [batch_size] * (count // batch_size)
        if count % batch_size:
            sizes.append(count % batch_size)
        largest = -(-self.size // self.world_size)
        if len(sizes) < -(-largest // batch_size) and sizes and sizes[-1] > 1:
            last = sizes.pop()
            sizes += [last - last // 2, last // 2]
        return sizes


def stratified(labels: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """``count`` random image numbers (int64, ascending) with the classes in proportion.

    The classes' quotas are rounded by largest remainders, ties to the lower class.
    """
    sizes = torch.bincount(labels).tolist()
    quotas = [count * size / max(len(labels), 1) for size in sizes]
    take = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(sizes)), key=lambda c: (take[c] - quotas[c], c))
    for c in by_remainder[: count - sum(take)]:
        take[c] += 1
    return torch.cat([members[:k] for members, k in zip(_by_class(labels, draw), take, strict=True)]).sort()[
        0
    ]


def per_class(labels: Tensor, count: int, draw: torch.Generator) -> Tensor:
    """``count`` random image numbers of every class, or all of a class with fewer, shuffled together."""
    picked = torch.cat([members[:count] for members in _by_class(labels, draw)])
    return picked[torch.randperm(len(picked), generator=draw)]


def at_random(size: int, count: int, draw: torch.Generator) -> Tensor:
    """``count`` of ``size`` image numbers, without replacement until all are used."""
    rounds = range(-(-count // max(size, 1)))
    return torch.cat([torch.randperm(size, generator=draw) for _ in rounds])[:count]


def _by_class(labels: Tensor, draw: torch.Generator) -> Iterable[Tensor]:
    for members in labels.argsort(stable=True).split(torch.bincount(labels).tolist()):
        yield members[torch.randperm(len(members), generator=draw)]
