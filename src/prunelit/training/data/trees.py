"""The data sets that are folders of image files, with a folder for each class."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from prunelit.image_files import printable
from prunelit.notice import warn
from prunelit.request import BadRequest
from prunelit.training.data import cache
from prunelit.training.data.decode import Decoder, NotGray, has_gray_header, statistics
from prunelit.training.data.layout import TEST, VALIDATION, Layout, class_names, layout_of
from prunelit.training.data.listing import Lister, put_aside, warn_of_untested
from prunelit.training.data.source import Contents, Preview, Source, Split


@dataclass(frozen=True)
class Listing:
    """The files of a tree and their labels, not yet opened."""

    train: Split
    test: Split
    class_names: list[str]


class Tree(Source):
    """``train/`` and ``test/`` (or ``val/``) with one folder per class, as for ``ImageFolder``.

    Classes are numbered in the order of their names in ``train/``. Images are gray (one channel) only if
    all of them are; otherwise all are read as RGB.
    """

    own_options: tuple[str, ...] = ("bits", "test_share")
    layout = "a folder with train/ and test/ (or val/), each with a folder of images for every class"
    test_kinds: tuple[tuple[str, ...], ...] = (TEST, VALIDATION)
    center = False

    @property
    def base(self) -> Path:
        """The folder that contains ``train/``."""
        return self.options.folder

    def present(self) -> bool:
        """Whether the folder exists."""
        return self.base.is_dir()

    @cached_property
    def places(self) -> Layout:
        """The folders of the training and test images."""
        return layout_of(self.base, self.test_kinds, self.options.test_share, self.wrong_root)

    @cached_property
    def _lister(self) -> Lister:
        return Lister(self.base, self.wrong_root)

    @cached_property
    def _classes(self) -> list[str]:
        return self._lister.classes(self.places.train)

    def class_folder(self, name: str) -> Path:
        """The folder of a class's training images."""
        return self.places.train / name

    def check(self) -> None:
        """Check the folders, that each class has an image, and that each test class has training images."""
        self.check_root()
        if not self.base.is_dir():
            raise self.wrong_root(f"{printable(self.base)} is not a folder")
        for name in self._classes:
            self._lister.check_not_empty(self.class_folder(name))
        self._check_test()

    def _check_test(self) -> None:
        folder, train = self.places.test, self.places.train
        if folder is None:
            return
        for name in class_names(folder, self.wrong_root):
            if name not in self._classes:
                lacking = f"{printable(train.name)}/ lacks"
                raise self.wrong_root(f"{printable(folder / name)} is a class that {lacking}")
            self._lister.check_not_empty(folder / name)

    def preview(self) -> Preview | None:
        """The class folders, and the first image if it is in color; gray images are known only after all are
        read."""
        if not self.present():
            return None
        first = Lister(self.base, self.wrong_root).split([(self.class_folder(self._classes[0]), 0)]).files[0]
        if self._is_gray(first):
            return None
        channels, height, width = self.decoder(3)(first).shape
        return len(self._classes), (channels, height, width)

    @cached_property
    def listing(self) -> Listing:
        """Every image file, class by class in the order of their paths; warns about files that are not
        images."""
        lister, places, classes = self._lister, self.places, self._classes
        train = lister.split([(self.class_folder(name), label) for label, name in enumerate(classes)])
        if places.test is None:
            assert self.options.test_share is not None
            train, test = put_aside(train, self.options.test_share)
        else:
            test = self._test_split(places.test)
        for folder in filter(None, (places.train, places.test)):
            lister.note_loose(folder)
        if places.said:
            warn(places.said)
        lister.say_left_out()
        names = self.class_names(classes)
        self._check_counts(names, train)
        warn_of_untested(names, test.labels)
        return Listing(train, test, names)

    def _test_split(self, folder: Path) -> Split:
        present = set(class_names(folder, self.wrong_root))
        places = [(folder / name, label) for label, name in enumerate(self._classes) if name in present]
        return self._lister.split(places)

    def _check_counts(self, names: list[str], train: Split) -> None:
        for name, count in zip(names, np.bincount(train.labels, minlength=len(names)), strict=True):
            if not count:
                raise BadRequest(
                    "test_share", self.options.test_share, "smaller", f"{name} has no image left to train on"
                )

    def class_names(self, classes: list[str]) -> list[str]:
        """The names of the classes, given the names of their folders."""
        return classes

    def raw_files(self) -> list[Path]:
        """All image files."""
        return [Path(file) for split in (self.listing.train, self.listing.test) for file in split.files]

    def inputs(self) -> list[Path]:
        """The folders of the training and the test set."""
        return [folder for folder in (self.places.train, self.places.test) if folder]

    def _is_gray(self, file: str) -> bool:
        """Whether an image counts as gray; never if the constants in the literature are for colors."""
        return self.constants is None and has_gray_header(str(self.options.root), file)

    def decoder(self, channels: int) -> Decoder:
        """The decoder of the files."""
        return Decoder(str(self.options.root), channels, self.options.size, self.center, self.options.bits)

    def decode(self) -> Contents:
        """All files in memory, decoded on all cores."""
        if self._is_gray(self.listing.train.files[0]):
            try:
                return self._decode(channels=1)
            except NotGray:
                pass
        return self._decode(channels=3)

    def _decode(self, channels: int) -> Contents:
        read, (train, test) = self.decoder(channels), (self.listing.train, self.listing.test)
        shape = read(train.files[0]).shape
        images = [read.many(split.files, shape) for split in (train, test)]
        mean, std = self.constants or statistics(images[0])
        return Contents(
            train=Split(train.labels, images[0]),
            test=Split(test.labels, images[1]),
            class_names=self.listing.class_names,
            mean=list(mean),
            std=list(std),
        )

    def decoded_bytes(self) -> int:
        """Memory of the decoded images, if all are as large as the first."""
        first, listing = self.listing.train.files[0], self.listing
        size = self.decoder(1 if self._is_gray(first) else 3)(first).size
        return size * (len(listing.train.files) + len(listing.test.files))

    def streamed(self) -> tuple[Contents, Decoder]:
        """The files and their decoder.

        If neither the user nor the literature gives mean and std, they are computed from all training
        images, as for images in memory. They are computed once and cached.
        """
        train, test = self.listing.train, self.listing.test
        gray = all(self._is_gray(file) for split in (train, test) for file in split.files)
        read = self.decoder(1 if gray else 3)
        mean, std = self.constants or self._moments(read)
        return Contents(train, test, self.listing.class_names, list(mean), list(std)), read

    def _moments(self, read: Decoder) -> tuple[list[float], list[float]]:
        given = self.options.mean, self.options.std
        if given[0] and given[1]:  # they are put in later
            return [], []
        return cache.kept_moments(self, read.channels, lambda: read.statistics(self.listing.train.files))
