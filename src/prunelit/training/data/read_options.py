"""The options that a data set needs in order to read its images."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Protocol


class ReadOptions(Protocol):
    """Where the images are and how they are read: the part of ``Options`` that data sets know.

    Data sets depend on this part only, because ``Options`` itself is built from the list of all data sets.
    """

    @property
    def dataset(self) -> str:
        """The name of the data set."""

    @property
    def root(self) -> str | Path | None:
        """The folder of the data, as it was given."""

    @property
    def folder(self) -> Path:
        """``root`` as an absolute path."""

    @property
    def download(self) -> bool:
        """Whether missing files are downloaded."""

    @property
    def size(self) -> int | None:
        """The height and width of the images; None: their own."""

    @property
    def in_memory(self) -> bool | Literal["auto"]:
        """Whether decoded images stay in memory."""

    @property
    def augment(self) -> bool | None:
        """Whether training images are augmented; None: as usual for the data set."""

    @property
    def mean(self) -> tuple[float, ...] | None:
        """The mean to subtract from each channel; None: that of the data set."""

    @property
    def std(self) -> tuple[float, ...] | None:
        """The standard deviation of each channel; None: that of the data set."""

    @property
    def bits(self) -> int | None:
        """The number of bits that pixels of more than 8 bits use."""

    @property
    def test_share(self) -> float | None:
        """The share of each class that becomes the test set."""

    @property
    def labels(self) -> Literal["fine", "coarse"]:
        """Which of two sets of classes is used."""
