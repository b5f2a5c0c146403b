"""The data sets that are folders of image files: any tree of class folders, ImageNet, Tiny ImageNet."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from prunelit.request import BadRequest
from prunelit.training.data.decode import Decoder, NotGray, has_gray_header, statistics
from prunelit.training.data.source import Contents, Preview, Source, Split

SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The files that count as images: those torchvision's ``ImageFolder`` takes."""


@dataclass(frozen=True)
class Listing:
    """The files of a tree and their labels, not yet opened."""

    train: Split
    test: Split
    class_names: list[str]


class Tree(Source):
    """``train/`` and ``test/`` (or, without it, ``val/``) with a folder a class, as ``ImageFolder`` reads it.

    Classes are numbered in the order of their names in ``train/``. Images are gray (one channel) only if
    all of them are; otherwise all are read as RGB.
    """

    layout = "a folder with train/ and test/ (or val/), each with a folder of images for every class"
    test_names: tuple[str, ...] = ("test", "val")
    center = False

    @property
    def base(self) -> Path:
        """The folder that holds ``train/``."""
        return self.options.folder

    def present(self) -> bool:
        """Whether there is a ``train/``."""
        return (self.base / "train").is_dir()

    def check(self) -> None:
        """Look for the folders, an image in each class, and test classes that have no training images."""
        self.check_root()
        if not self.base.is_dir():
            raise self.wrong_root(f"{self.base} is not a folder")
        if not self.present():
            raise self.wrong_root(f"{self.base} has no train/")
        classes = _classes(self.base / "train")
        if not classes:
            raise self.wrong_root(f"{self.base / 'train'} has no class folders")
        self._check_test(classes)
        for name in classes:
            self._check_not_empty(self.base / "train" / name)

    def _check_test(self, classes: list[str]) -> None:
        folder = self._test_folder()
        found = _classes(folder)
        if not found:
            raise self.wrong_root(f"{folder} has no class folders")
        for name in found:
            if name not in classes:
                raise self.wrong_root(f"{folder / name} is a class that train/ lacks")
            self._check_not_empty(folder / name)

    def _check_not_empty(self, folder: Path) -> None:
        if not _has_image(folder):
            raise self.wrong_root(f"the class folder {folder} has no image ({' '.join(SUFFIXES)})")

    def _test_folder(self) -> Path:
        for name in self.test_names:
            if (self.base / name).is_dir():
                return self.base / name
        raise self.wrong_root(f"{self.base} has no {'/ or '.join(self.test_names)}/")

    def preview(self) -> Preview | None:
        """The class folders, and the first image if it is coloured: only all images tell gray ones."""
        if not self.present():
            return None
        classes = _classes(self.base / "train")
        first = _walk([(self.base / "train" / classes[0], 0)]).files[0]
        if has_gray_header(str(self.options.root), first):
            return None
        channels, height, width = self.decoder(3)(first).shape
        return len(classes), (channels, height, width)

    @cached_property
    def listing(self) -> Listing:
        """Every image file, class by class in the order of their paths."""
        classes = _classes(self.base / "train")
        train = _walk([(self.base / "train" / name, label) for label, name in enumerate(classes)])
        return Listing(train, self._test_split(classes), self.class_names(classes))

    def _test_split(self, classes: list[str]) -> Split:
        folder = self._test_folder()
        return _walk([(folder / name, label) for label, name in enumerate(classes)])

    def class_names(self, classes: list[str]) -> list[str]:
        """The names of the classes, given their folders'."""
        return classes

    def raw_files(self) -> list[Path]:
        """All image files."""
        return [Path(file) for split in (self.listing.train, self.listing.test) for file in split.files]

    def decoder(self, channels: int) -> Decoder:
        """What turns the files into arrays."""
        return Decoder(str(self.options.root), channels, self.options.size, self.center)

    def decode(self) -> Contents:
        """All files in memory, decoded on all cores."""
        first = self.listing.train.files[0]
        if has_gray_header(str(self.options.root), first):
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
        """Memory the decoded images would take, if all are as large as the first."""
        first, listing = self.listing.train.files[0], self.listing
        gray = has_gray_header(str(self.options.root), first)
        return self.decoder(1 if gray else 3)(first).size * (
            len(listing.train.files) + len(listing.test.files)
        )

    def streamed(self) -> tuple[Contents, Decoder]:
        """The files, and what reads them one by one.

        Mean and std, where no constants are known, are those of 4,096 evenly spaced training images.
        """
        train, test = self.listing.train, self.listing.test
        gray = all(
            has_gray_header(str(self.options.root), file) for split in (train, test) for file in split.files
        )
        read = self.decoder(1 if gray else 3)
        if self.constants:
            mean, std = self.constants
            return Contents(train, test, self.listing.class_names, list(mean), list(std)), read
        step = max(1, len(train.files) // 4096)
        sample = train.files[::step]
        moments = statistics(read.many(sample, read(sample[0]).shape))
        return Contents(train, test, self.listing.class_names, *moments), read


class ImageNet(Tree):
    """ILSVRC 2012 as torchvision unpacks it: a folder a class in ``train/`` and in ``val/``, the test set.

    Test images: the shorter side to 8/7 of ``size``, then the middle (256 and 224). Training images: random
    resized crops, mirrored at random.
    """

    augmentation = "resized_crop"
    constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    layout = "a folder with train/ and val/, each with a folder of images for every class (n01440764 …)"
    test_names = ("val",)
    center = True

    def check(self) -> None:
        """As any tree; and random resized crops need the full-size files."""
        if self.options.size is None:
            raise BadRequest("size", "null", "an integer >= 1", "ImageNet's images differ in size")
        if self.options.in_memory is True and self.options.augment is not False:
            why = "random resized crops are cut from the full-size files"
            raise BadRequest("in_memory", "true", "auto or false, or data.augment=false with it", why)
        super().check()


class TinyImageNet(Tree):
    """200 classes of 64 x 64 pixels, http://cs231n.stanford.edu/tiny-imagenet-200.zip.

    100,000 training images; the 10,000 of ``val/``, whose classes a text file gives, are the test set,
    because the labels of ``test/`` were never published.
    """

    augmentation = "crop"
    constants = ((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821))
    layout = "a folder with tiny-imagenet-200 (the unpacked tiny-imagenet-200.zip)"
    url = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    md5 = "90528d7ca1a48142e341f4ef8d21d0de"

    @property
    def base(self) -> Path:
        """The folder the archive unpacks to."""
        return self.options.folder / "tiny-imagenet-200"

    def check(self) -> None:
        """As any tree, once it is there."""
        Source.check(self)
        if self.present():
            super().check()

    def download(self) -> None:
        """Fetch the archive, compare its checksum, and unpack it aside: half of it is never taken for all."""
        from torchvision.datasets.utils import download_url, extract_archive

        folder, archive = self.options.folder, Path(self.url).name
        download_url(self.url, folder, archive, self.md5)
        aside = folder / ".tiny-imagenet-200-unpacking"
        shutil.rmtree(aside, ignore_errors=True)
        extract_archive(folder / archive, aside)
        os.rename(aside / self.base.name, self.base)
        aside.rmdir()

    def _annotations(self) -> list[list[str]]:
        table = self.base / "val" / "val_annotations.txt"
        if not table.is_file():
            raise self.wrong_root(f"{table} is missing")
        return [line.split("\t")[:2] for line in table.read_text().splitlines() if line]

    def _check_test(self, classes: list[str]) -> None:
        known = set(classes)
        for file, name in self._annotations():
            if name not in known:
                raise self.wrong_root(
                    f"val/val_annotations.txt gives {file} the class {name} that train/ lacks"
                )

    def _test_split(self, classes: list[str]) -> Split:
        number = {name: label for label, name in enumerate(classes)}
        table = self._annotations()
        files = [str(self.base / "val" / "images" / file) for file, _ in table]
        return Split(np.array([number[name] for _, name in table], np.int64), files=files)

    def class_names(self, classes: list[str]) -> list[str]:
        """The first word ``words.txt`` has for a class, or its folder's name."""
        words = self.base / "words.txt"
        lines = words.read_text().splitlines() if words.is_file() else []
        table = dict(line.split("\t", 1) for line in lines if "\t" in line)
        return [table.get(name, name).split(",")[0] for name in classes]


def _classes(folder: Path) -> list[str]:
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())


def _has_image(folder: Path) -> bool:
    # looks at one entry of a good folder, however many it has
    deeper = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(SUFFIXES):
                return True
            if entry.is_dir():
                deeper.append(Path(entry.path))
    return any(_has_image(path) for path in deeper)


def _walk(folders: list[tuple[Path, int]]) -> Split:
    files: list[str] = []
    labels: list[int] = []
    for folder, label in folders:
        for parent, _, names in sorted(os.walk(folder, followlinks=True)):
            found = [os.path.join(parent, name) for name in sorted(names) if name.lower().endswith(SUFFIXES)]
            files += found
            labels += [label] * len(found)
    return Split(np.array(labels, np.int64), files=files)
