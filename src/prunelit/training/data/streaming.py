"""Images decoded on demand by worker processes, for data sets that do not fit into memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from prunelit.data_workers import raise_for_the_first_dead_worker
from prunelit.request import BadRequest
from prunelit.training.data.augment import CropFlip, Normalise, ResizedCrop
from prunelit.training.data.decode import Decoder, other_size
from prunelit.training.data.loaders import Batch, EpochLoader, draw_augmentation
from prunelit.training.data.sampling import EpochSampler
from prunelit.training.data.source import Split

Key = tuple[int, np.ndarray | None]
"""An image's number, and the random numbers of its augmentation."""


class StreamedSet(Dataset):
    """Images of a split, read and augmented one by one.

    All random numbers are part of the key, so that a batch does not depend on the worker.

    Args:
        split: arrays or files.
        rows: the numbers of the images in the split that belong to the set.
        shape: (channels, height, width) of every image.
        decoder: reads the files, if the split has files.
        augmentation: random crops of the training set.
    """

    def __init__(
        self,
        split: Split,
        rows: Tensor,
        shape: tuple[int, ...],
        decoder: Decoder | None = None,
        augmentation: CropFlip | ResizedCrop | None = None,
    ) -> None:
        self.split, self.rows, self.shape = split, rows, shape
        self.decoder, self.augmentation = decoder, augmentation

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Key) -> tuple[Tensor, int] | BadRequest:
        """Image (uint8) and label; for an unreadable file the error, because workers cannot raise it
        unchanged."""
        number, draws = key
        row = int(self.rows[number])
        try:
            return self._image(row, None if draws is None else torch.from_numpy(draws)), int(
                self.split.labels[row]
            )
        except BadRequest as wrong:
            return wrong

    def _image(self, row: int, draws: Tensor | None) -> Tensor:
        if self.split.images is not None:
            image = torch.from_numpy(np.array(self.split.images[row]))
        else:
            assert self.decoder is not None
            path = self.split.files[row]
            picture = self.decoder.open(path)
            if draws is not None and isinstance(self.augmentation, ResizedCrop):
                return self.augmentation.of_image(picture, draws)
            pixels = self.decoder.fit(picture)
            if pixels.shape != self.shape:
                raise other_size(path, pixels.shape, self.shape)
            image = torch.from_numpy(pixels)
        if draws is not None and isinstance(self.augmentation, CropFlip):
            return self.augmentation(image[None], draws[None])[0]
        return image


class KeyBatches:
    """The keys of the sampler's epoch in batches, from batch ``first`` on."""

    def __init__(self, sampler: EpochSampler, batch_size: int, dataset: StreamedSet) -> None:
        self.sampler, self.batch_size, self.dataset = sampler, batch_size, dataset
        self.first = 0

    def __len__(self) -> int:
        return len(self.sampler.batch_sizes(self.batch_size)) - self.first

    def __iter__(self) -> Iterator[list[Key]]:
        sizes = self.sampler.batch_sizes(self.batch_size)
        numbers = self.sampler.order().split(sizes)[self.first :]
        augmentation = self.dataset.augmentation
        if augmentation is None:
            for part in numbers:
                yield [(number, None) for number in part.tolist()]
            return
        draws = draw_augmentation(augmentation, self.sampler).split(sizes)[self.first :]
        for part, drawn in zip(numbers, draws, strict=True):
            # Not as tensors, which workers would receive through shared memory, each with an open file.
            yield list(zip(part.tolist(), drawn.numpy(), strict=True))


class StreamingLoader(EpochLoader):
    """Batches that worker processes assemble, moved to the device and normalized there.

    Args:
        dataset: the images.
        sampler: their order.
        batch_size: images a batch.
        normalise: applied to whole batches.
        workers: processes; 0 decodes in this one.
        device: the device of the batches.
    """

    def __init__(
        self,
        dataset: StreamedSet,
        sampler: EpochSampler,
        batch_size: int,
        normalise: Normalise,
        workers: int,
        device: torch.device,
    ) -> None:
        super().__init__(sampler, batch_size)
        self.dataset, self.normalise, self.device = dataset, normalise, device
        self._keys = KeyBatches(sampler, batch_size, dataset)
        self._loader: DataLoader = DataLoader(
            dataset,
            batch_sampler=self._keys,
            num_workers=workers,
            collate_fn=_collate,
            worker_init_fn=ignore_closed_connections,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0 and sampler.shuffle,
            generator=torch.Generator(),  # it seeds the workers, from the global state if there is none
        )

    @property
    def _iterator(self) -> Any:
        # Lightning stops these workers when a run ends. If the garbage collector closes the queues
        # first, joining the workers hangs.
        return self._loader._iterator

    @_iterator.setter
    def _iterator(self, iterator: Any) -> None:
        self._loader._iterator = iterator

    def _batches(self, first: int) -> Iterator[Batch]:
        self._keys.first = first
        batches = iter(self._loader)
        raise_for_the_first_dead_worker()
        for batch in batches:
            if isinstance(batch, BadRequest):
                raise batch
            images, labels = (part.to(self.device, non_blocking=True) for part in batch)
            yield self.normalise(images), labels


def ignore_closed_connections(worker: int) -> None:
    """Print no traceback in this worker if the run closes a connection while it receives a batch.

    The run does so when another of its workers was killed, and reports that itself. In a worker, a thread of
    ``multiprocessing`` hands batches over and prints all its errors.
    """
    show = sys.excepthook

    def show_others(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if not isinstance(error, (ConnectionError, EOFError)):
            show(kind, error, traceback)

    sys.excepthook = show_others


def _collate(items: list[Any]) -> tuple[Tensor, Tensor] | BadRequest:
    wrong = [item for item in items if isinstance(item, BadRequest)]
    if wrong:
        return wrong[0]
    return torch.stack([image for image, _ in items]), torch.tensor([label for _, label in items])
