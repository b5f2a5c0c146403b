"""Loaders whose batches only depend on (seed, epoch, rank) and that can resume within an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from prunelit.training.data.augment import CropFlip, Normalise, ResizedCrop
from prunelit.training.data.sampling import EpochSampler, Purpose, generator

Batch = tuple[Tensor, Tensor]

PIXELS_AT_ONCE = 2**20
"""The number of pixels up to which several small batches are gathered at a time."""


class EpochLoader(ABC):
    """What Lightning needs of a loader: length, batches, a sampler with ``set_epoch``, and a state.

    The state is the epoch and the number of batches returned, so that a run that stopped within an epoch
    resumes with the next batch.
    """

    # Lightning reads both to decide whether to insert its own samplers into a DataLoader
    batch_sampler: None = None
    sampler: EpochSampler

    def __init__(self, sampler: EpochSampler, batch_size: int) -> None:
        self.sampler, self.batch_size = sampler, batch_size
        self._progress = {"epoch": 0, "batch": 0}
        self._resume: dict[str, int] | None = None

    @abstractmethod
    def _batches(self, first: int) -> Iterator[Batch]:
        """The batches of the sampler's epoch from number ``first`` on."""

    def __len__(self) -> int:
        """Number of batches in an epoch, also if it is resumed in the middle."""
        return len(self.sampler.batch_sizes(self.batch_size))

    def __iter__(self) -> Iterator[Batch]:
        """Yield (images float32 normalised, labels int64).

        A generator, so that nothing is drawn before the first batch is requested, because Lightning creates
        the iterator of a resumed run before it sets the epoch.
        """
        epoch, resume = self.sampler.epoch, self._resume
        self._resume = None
        first = resume["batch"] if resume and resume["epoch"] == epoch else 0
        for number, batch in enumerate(self._batches(first), start=first + 1):
            self._progress = {"epoch": epoch, "batch": number}
            yield batch

    def state_dict(self) -> dict[str, int]:
        """The epoch and the number of its batches that were returned."""
        return dict(self._progress)

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Let the next iteration continue from this state, if it belongs to the same epoch."""
        self._resume = self._progress = dict(state_dict)


def draw_augmentation(augmentation: CropFlip | ResizedCrop, sampler: EpochSampler) -> Tensor:
    """The random numbers of this rank's images in the sampler's epoch, one row per image."""
    draw = generator(Purpose.AUGMENT, sampler.seed, sampler.epoch)
    return augmentation.draw(sampler.size, draw)[sampler.positions()]


class ImageSet:
    """Decoded images on a device, or some of them.

    Args:
        images: uint8 (number, channels, height, width).
        labels: int64 (number,).
        rows: the numbers of the images that belong to the set; all if None.
    """

    def __init__(self, images: Tensor, labels: Tensor, rows: Tensor | None = None) -> None:
        self.images, self.labels = images, labels
        self.rows = torch.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)


class InMemoryLoader(EpochLoader):
    """Batches that are gathered, augmented and normalized on the device of the images, a whole batch at
    once."""

    def __init__(
        self,
        dataset: ImageSet,
        sampler: EpochSampler,
        batch_size: int,
        normalise: Normalise,
        augmentation: CropFlip | None = None,
    ) -> None:
        super().__init__(sampler, batch_size)
        self.dataset, self.normalise, self.augmentation = dataset, normalise, augmentation

    def _batches(self, first: int) -> Iterator[Batch]:
        images, labels = self.dataset.images, self.dataset.labels
        rows = self.dataset.rows[self.sampler.order()].to(images.device)
        draws = (
            draw_augmentation(self.augmentation, self.sampler).to(images.device)
            if self.augmentation
            else None
        )
        sizes = self.sampler.batch_sizes(self.batch_size)
        at_once = max(1, PIXELS_AT_ONCE // (self.batch_size * images[0].numel()))
        start = sum(sizes[:first])
        for number in range(first, len(sizes), at_once):
            parts = sizes[number : number + at_once]
            some = slice(start, start := start + sum(parts))
            chosen = images.index_select(0, rows[some])
            if self.augmentation is not None:
                assert draws is not None
                chosen = self.augmentation(chosen, draws[some])
            chosen_labels = labels.index_select(0, rows[some])
            yield from zip(self.normalise(chosen).split(parts), chosen_labels.split(parts), strict=True)
