"""What every data set offers: a quick check, a download, and its images as arrays or as lists of files."""

from __future__ import annotations

import http.client
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock

from prunelit.request import BadRequest
from prunelit.training.data.layout import has_class_folders
from prunelit.training.data.read_options import ReadOptions

Preview = tuple[int, tuple[int, int, int]]
Augmentation = Literal["none", "crop", "resized_crop"]

# errors of a failed download or archive; URLError and timeouts are OSErrors
DOWNLOAD_FAULTS = (OSError, RuntimeError, ValueError, EOFError, http.client.HTTPException, zipfile.BadZipFile)


@dataclass(frozen=True)
class Split:
    """The training or the test images: decoded, or the files that hold them.

    Args:
        labels: int64 (number,).
        images: uint8 (number, channels, height, width), or None if they are not decoded yet.
        files: their paths, if they are.
    """

    labels: np.ndarray
    images: np.ndarray | None = None
    files: Sequence[str] = ()


@dataclass(frozen=True)
class Contents:
    """A data set: the official training and test splits, and the training images' mean and std by channel."""

    train: Split
    test: Split
    class_names: list[str]
    mean: list[float]
    std: list[float]


class Source(ABC):
    """A named data set in ``options.root``."""

    augmentation: Augmentation = "none"
    """The usual augmentation for these images."""
    constants: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    """Mean and std of each channel in the literature; None: compute them from the training images."""
    own_options: tuple[str, ...] = ()
    """The options that this data set reads and not every other data set."""
    layout: str = "a folder"
    """The required contents of ``data.root``, for messages."""

    def __init__(self, options: ReadOptions) -> None:
        self.options = options

    @property
    def name(self) -> str:
        """The name of the decoded copy."""
        return self.options.dataset

    def check(self) -> None:
        """Raise ``BadRequest`` if the folders show that the data cannot be read."""
        self.check_root()
        if not self.present() and has_class_folders(self.options.folder):
            root = self.options.root
            used = f"given to data=folder (data=folder data.root={root})"
            raise BadRequest("root", root, used, "it has train/ with folders of images")
        if not self.present() and not self.options.download:
            raise self.wrong_root("it does not exist, and data.download=false")

    def check_root(self) -> None:
        """Raise ``BadRequest`` if ``data.root`` was not given or is a file."""
        if not self.options.root:
            raise self.wrong_root("no folder was given")
        if self.options.folder.exists() and not self.options.folder.is_dir():
            raise self.wrong_root("that is not a folder")

    def preview(self) -> Preview | None:
        """Number of classes and shape of an image, as far as they are known before images are read."""
        return None

    def resized(self, num_classes: int, channels: int, side: int) -> Preview:
        """The preview of square images of ``side`` pixels, after ``data.size``."""
        side = self.options.size or side
        return num_classes, (channels, side, side)

    @abstractmethod
    def present(self) -> bool:
        """Whether the files exist in the root, by their names only."""

    @abstractmethod
    def raw_files(self) -> list[Path]:
        """The files whose change makes a decoded copy stale; empty: the data set needs no copy."""

    def inputs(self) -> list[Path]:
        """The files and folders that are read, for the record of a run."""
        return self.raw_files()

    @abstractmethod
    def decode(self) -> Contents:
        """All images in memory."""

    def download(self) -> None:
        """Download the files and check their checksums; raises one of ``DOWNLOAD_FAULTS``."""
        raise RuntimeError(f"{self.options.dataset} must be downloaded manually")

    def fetch(self) -> None:
        """Download missing files once, also if several processes need them."""
        if self.present():
            return
        if not self.options.download:
            raise self.wrong_root("it does not exist, and data.download=false")
        folder = self.options.folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f".{self.options.dataset}-download.lock"):
                if not self.present():
                    self.download()
        except DOWNLOAD_FAULTS as fault:
            reason = " ".join(str(fault).split())[:300] or type(fault).__name__
            raise self.wrong_root(f"the download failed ({reason}); download the files manually") from fault

    def wrong_root(self, why: str) -> BadRequest:
        """The error for a ``data.root`` that does not contain this data set."""
        root = "null" if self.options.root is None else self.options.root
        return BadRequest("root", root, self.layout, why)
