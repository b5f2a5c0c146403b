"""ImageNet and Tiny ImageNet: class folders with their own layouts and constants."""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from pathlib import Path

import numpy as np

from prunelit.image_files import printable
from prunelit.request import BadRequest
from prunelit.training.data.layout import VALIDATION, Layout
from prunelit.training.data.source import Source, Split
from prunelit.training.data.trees import Tree


class ImageNet(Tree):
    """ILSVRC 2012 as torchvision unpacks it: one folder per class in ``train/`` and in ``val/``, the test
    set.

    Test images: the shorter side to 8/7 of ``size``, then the center crop (256 and 224). Training images:
    random resized crops, mirrored at random.
    """

    augmentation = "resized_crop"
    own_options = ("bits",)
    constants = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    layout = "a folder with train/ and val/, each with a folder of images for every class (n01440764 …)"
    test_kinds = (VALIDATION,)
    center = True

    def check(self) -> None:
        """As in other trees; random resized crops also need the full-size files."""
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
    own_options = ("bits",)
    constants = ((0.4802, 0.4481, 0.3975), (0.2770, 0.2691, 0.2821))
    layout = "a folder with tiny-imagenet-200 (the unpacked tiny-imagenet-200.zip)"
    url = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
    md5 = "90528d7ca1a48142e341f4ef8d21d0de"

    @property
    def base(self) -> Path:
        """The folder to which the archive unpacks."""
        return self.options.folder / "tiny-imagenet-200"

    @cached_property
    def places(self) -> Layout:
        """As in the archive."""
        for name in ("train", "val"):
            if not (self.base / name).is_dir():
                raise self.wrong_root(f"{printable(self.base)} has no {name}/")
        return Layout(self.base / "train", self.base / "val")

    def class_folder(self, name: str) -> Path:
        """The folder of the images, without the table of boxes."""
        folder = self.places.train / name
        return folder / "images" if (folder / "images").is_dir() else folder

    def check(self) -> None:
        """As in other trees, if it exists."""
        Source.check(self)
        if self.present():
            super().check()

    def download(self) -> None:
        """Download the archive, compare its checksum, and unpack it atomically."""
        from torchvision.datasets.utils import download_url, extract_archive

        folder, archive = self.options.folder, Path(self.url).name
        download_url(self.url, folder, archive, self.md5)
        aside = folder / ".tiny-imagenet-200-unpacking"
        shutil.rmtree(aside, ignore_errors=True)
        extract_archive(folder / archive, aside)
        os.rename(aside / self.base.name, self.base)
        aside.rmdir()

    def inputs(self) -> list[Path]:
        """The two folders of images, the table of labels, and the names of the classes."""
        files = ("train", "val/images", "val/val_annotations.txt", "words.txt")
        return [self.base / name for name in files]

    def _annotations(self) -> list[list[str]]:
        table = self.base / "val" / "val_annotations.txt"
        if not table.is_file():
            raise self.wrong_root(f"{table} is missing")
        lines = [line for line in table.read_text(errors="replace").splitlines() if line]
        for number, line in enumerate(lines, start=1):
            if "\t" not in line:
                raise self.wrong_root(f"val/val_annotations.txt has no class in line {number}")
        return [line.split("\t")[:2] for line in lines]

    def _check_test(self) -> None:
        known = set(self._classes)
        for file, name in self._annotations():
            if name not in known:
                raise self.wrong_root(
                    f"val/val_annotations.txt gives {file} the class {name} that train/ lacks"
                )

    def _test_split(self, folder: Path) -> Split:
        number = {name: label for label, name in enumerate(self._classes)}
        table = self._annotations()
        files = [folder / "images" / file for file, _ in table]
        for file in files:
            if not file.is_file():
                raise self.wrong_root(f"{printable(file)} of val_annotations.txt is missing, or is no file")
        return Split(np.array([number[name] for _, name in table], np.int64), files=list(map(str, files)))

    def class_names(self, classes: list[str]) -> list[str]:
        """The first word ``words.txt`` has for a class, or its folder's name."""
        words = self.base / "words.txt"
        lines = words.read_text(errors="replace").splitlines() if words.is_file() else []
        table = dict(line.split("\t", 1) for line in lines if "\t" in line)
        return [table.get(name, name).split(",")[0] for name in classes]
