"""The LightningDataModule of every data set."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from prunelit.request import BadRequest
from prunelit.training.data import cache
from prunelit.training.data.augment import CropFlip, Normalise, ResizedCrop
from prunelit.training.data.decode import Decoder, cores
from prunelit.training.data.loaders import EpochLoader, ImageSet, InMemoryLoader
from prunelit.training.data.options import Options
from prunelit.training.data.sampling import EpochSampler, Purpose, at_random, generator, per_class, stratified
from prunelit.training.data.source import Contents, Preview, Split
from prunelit.training.data.sources import source_of
from prunelit.training.data.streaming import StreamedSet, StreamingLoader
from prunelit.training.data.trees import Tree

log = logging.getLogger(__name__)


class ImageData(pl.LightningDataModule):
    """Training and test images of a named data set, and the clean batches for scoring.

    The official test split is the test set, each image once; a validation set is taken from the training
    images. Order and augmentation of an epoch only depend on the seed, the epoch and the rank.

    Args:
        dataset: one of ``prunelit.training.data.options.DATASETS``.
        **options: the fields of :class:`~prunelit.training.data.options.Options`.

    After ``setup`` these attributes exist: ``num_classes``, ``input_shape`` (channels, height, width),
    ``class_names``, ``train_size``, ``validation_size``, ``test_size`` and ``normalise``.
    """

    num_classes: int
    input_shape: tuple[int, int, int]
    class_names: list[str]
    train_size: int
    validation_size: int
    test_size: int
    normalise: Normalise

    def __init__(self, dataset: str = "digits", **options: Any) -> None:
        super().__init__()
        self.options = Options.of(dataset=dataset, **options)
        self._contents: Contents | None = None
        self._decoder: Decoder | None = None
        self._placed: dict[tuple[str, torch.device], tuple[Tensor, Tensor]] = {}
        self._on_device: dict[torch.device, bool] = {}

    def check(self) -> None:
        """Raise ``BadRequest`` for wrong options and missing folders; reads no image, takes milliseconds."""
        source_of(self.options).check()

    def preview(self) -> Preview | None:
        """Number of classes and (channels, height, width), if known before images are downloaded and read."""
        return source_of(self.options).preview()

    def prepare_data(self) -> None:
        """Download and decode missing files; Lightning calls this in one process per machine."""
        if self._contents is None:
            self.check()
            source_of(self.options).fetch()
            self._load()

    def setup(self, stage: str | None = None) -> None:
        """Map the decoded images into memory, or list the files; a second call does nothing."""
        if self._contents is None:
            self._load()

    def _load(self) -> None:
        source, options = source_of(self.options), self.options
        source.check()
        usual = source.augmentation
        kind = {None: usual, True: usual if usual != "none" else "crop", False: "none"}[options.augment]
        if isinstance(source, Tree) and self._streams(source, kind):
            contents, self._decoder = source.streamed()
            shape = self._decoder(contents.train.files[0]).shape
        else:
            contents = cache.load(source)
            assert contents.train.images is not None
            shape = contents.train.images.shape[1:]
        self._contents, self._augmentation = contents, _augmentation(kind, shape)
        self.class_names, self.num_classes = contents.class_names, len(contents.class_names)
        self.input_shape = (int(shape[0]), int(shape[1]), int(shape[2]))
        self.normalise = Normalise(*self._moments(contents))
        self._split_off_validation(torch.from_numpy(contents.train.labels))
        self.train_size, self.validation_size = len(self._rows["train"]), len(self._rows["validation"])
        self.test_size = len(self._rows["test"])

    def _moments(self, contents: Contents) -> tuple[list[float], list[float]]:
        """Mean and standard deviation by channel: as given, otherwise of the data set."""
        options, channels = self.options, self.input_shape[0]
        for name, given in (("mean", options.mean), ("std", options.std)):
            if given is not None and len(given) != channels:
                allowed = f"a list of {channels}, one for each channel of the images" if channels > 1 else ""
                shown = f"[{','.join(map(str, given))}]"
                raise BadRequest(name, shown, allowed or "a list of 1 number: the images are gray")
        return list(options.mean or contents.mean), list(options.std or contents.std)

    def inputs(self) -> list[Path]:
        """The files and folders that the images are read from, for the record of a run."""
        return source_of(self.options).inputs()

    def _streams(self, source: Tree, kind: str) -> bool:
        if self.options.in_memory != "auto":
            return not self.options.in_memory
        return kind == "resized_crop" or source.decoded_bytes() > available_memory(torch.device("cpu")) // 4

    def _split_off_validation(self, labels: Tensor) -> None:
        assert self._contents is not None
        asked, number = self.options.validation, len(labels)
        count = asked if isinstance(asked, int) else round(asked * number)
        if count >= number:
            allowed = "a share of the training images in [0, 1), or a number of them"
            raise BadRequest("validation", asked, allowed, f"there are {number} training images")
        rows = stratified(labels, count, generator(Purpose.VALIDATION, self.options.seed))
        train = torch.ones(number, dtype=torch.bool)
        train[rows] = False
        test = torch.arange(len(self._contents.test.labels))
        self._rows = {"train": train.nonzero()[:, 0], "validation": rows, "test": test}

    def train_dataloader(self) -> EpochLoader:
        """The training images, shuffled and augmented differently in each epoch; the last batch may be
        smaller."""
        return self._loader("train", self.options.batch_size, shuffle=True)

    def plain_train_dataloader(self) -> EpochLoader | None:
        """The training images in order, not augmented; None if random crops need the full-size files."""
        if isinstance(self._augmentation, ResizedCrop):
            return None
        return self._loader("train", self.options.eval_batch_size, shuffle=False)

    def val_dataloader(self) -> list[EpochLoader]:
        """The test loader, for the test curve, and the validation loader if ``validation`` is set."""
        names = ["test", "validation"] if self.validation_size else ["test"]
        return [self._loader(name, self.options.eval_batch_size, shuffle=False) for name in names]

    def test_dataloader(self) -> EpochLoader:
        """The test images in order, each exactly once over all ranks."""
        return self._loader("test", self.options.eval_batch_size, shuffle=False)

    def _loader(self, name: str, batch_size: int, shuffle: bool) -> EpochLoader:
        rows, split = self.indices(name), self.split(name)
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        sampler = EpochSampler(
            len(rows), self.options.seed, shuffle=shuffle, rank=rank, world_size=world_size
        )
        augmentation = self._augmentation if shuffle else None
        if split.images is not None and self.options.in_memory is not False:
            assert not isinstance(augmentation, ResizedCrop)
            dataset = ImageSet(*self._place(name), rows)
            return InMemoryLoader(dataset, sampler, batch_size, self.normalise, augmentation)
        workers = cores() if self.options.workers is None else self.options.workers
        streamed = StreamedSet(split, rows, self.input_shape, self._decoder, augmentation)
        return StreamingLoader(streamed, sampler, batch_size, self.normalise, workers, self._device)

    def split(self, name: str) -> Split:
        """Return the images and labels of the official split ``train`` or ``test``, after ``setup``."""
        assert self._contents is not None, "call prepare_data() and setup() first"
        return self._contents.test if name == "test" else self._contents.train

    def indices(self, name: str) -> Tensor:
        """Return the indices (int64) in its split of the images of ``train``, ``validation`` or ``test``."""
        return self._rows[name]

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _place(self, name: str) -> tuple[Tensor, Tensor]:
        """The split's images and labels on the training device, or in main memory if they would not fit."""
        assert self._contents is not None
        device = self._device
        if device not in self._on_device:  # decided once: later the device holds the network as well
            parts = (self._contents.train.images, self._contents.test.images)
            needed = sum(part.nbytes for part in parts if part is not None)
            self._on_device[device] = (
                self.options.in_memory is True or needed <= available_memory(device) // 4
            )
        device = device if self._on_device[device] else torch.device("cpu")
        key = ("test" if name == "test" else "train", device)
        if key not in self._placed:
            split = self.split(name)
            images = torch.from_numpy(np.asarray(split.images)).to(device)
            self._placed[key] = (images, torch.from_numpy(split.labels).to(device))
        return self._placed[key]

    def scoring_batches(
        self, samples_per_class: int | None, num_batches: int | None, batch_size: int
    ) -> list[tuple[Tensor, Tensor]]:
        """Clean (normalised, not augmented) training images for scoring, the same for every method.

        They only depend on the seed, are the same on every rank, and do not use the global random state.

        Args:
            samples_per_class: the number of images of every class (all images of smaller classes), shuffled
                together.
            num_batches: the number of batches of random images, drawn without replacement until all are used.
                If both are None, the whole training set in order.
            batch_size: images per batch; the last may be smaller.
        """
        rows, split = self.indices("train"), self.split("train")
        labels = torch.from_numpy(split.labels)[rows]
        draw = generator(Purpose.SCORING, self.options.seed)
        if samples_per_class is not None and num_batches is not None:
            raise BadRequest("samples_per_class", samples_per_class, "null when num_batches is given")
        if samples_per_class is not None:
            rows = rows[per_class(labels, samples_per_class, draw)]
        elif num_batches is not None:
            rows = rows[at_random(len(rows), num_batches * batch_size, draw)]
        return [self._clean(part, split) for part in rows.split(batch_size)]

    def spread_test_images(self, count: int) -> tuple[Tensor, Tensor]:
        """Clean test images and labels, ``count`` of them evenly spaced over the test set, or all."""
        split = self.split("test")
        rows = torch.linspace(0, self.test_size - 1, min(count, self.test_size), dtype=torch.float64)
        return self._clean(rows.round().long(), split)

    def _clean(self, rows: Tensor, split: Split) -> tuple[Tensor, Tensor]:
        if split.images is not None:
            images = torch.from_numpy(split.images[rows.numpy()])
        else:
            assert self._decoder is not None
            images = torch.from_numpy(
                self._decoder.many([split.files[i] for i in rows.tolist()], self.input_shape)
            )
        labels = torch.from_numpy(split.labels[rows.numpy()])
        return self.normalise(images.to(self._device)), labels.to(self._device)


def _augmentation(kind: str, shape: tuple[int, ...]) -> CropFlip | ResizedCrop | None:
    if kind == "none":
        return None
    if kind == "resized_crop":
        return ResizedCrop(shape[1])
    # 4 pixels for 32 x 32 and larger, fewer for smaller images
    return CropFlip(padding=max(1, min(4, shape[1] // 8)))


def available_memory(device: torch.device) -> int:
    """Free bytes of the GPU, or of main memory within the limit of a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = 2**63 - 1
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        free = int(lines["MemAvailable"].split()[0]) * 1024
    limit, used = (Path("/sys/fs/cgroup") / name for name in ("memory.max", "memory.current"))
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, int(limit.read_text()) - int(used.read_text()))
    return free
