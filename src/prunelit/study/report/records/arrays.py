"""Arrays of a run's files, read on access; unreadable arrays are treated as missing."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from prunelit.study.bounded import LIMITS, LONGEST_NAME, NotPlain, check_plain

BROKEN = (OSError, ValueError, EOFError, MemoryError, zlib.error, zipfile.BadZipFile)
"""Errors of NumPy for a file that is truncated or has another format."""


MOST_NAMES = 100_000
"""Maximum number of class names of a run."""


def class_names(details: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return the names of the classes, each cut to ``LONGEST_NAME`` characters; empty if not known."""
    names = details.get("class_names")
    if names is None or names.dtype.kind != "U" or names.size > MOST_NAMES:
        return ()
    return tuple(map(str, names.ravel().astype(f"U{LONGEST_NAME}")))


def check_unpacked(path: Path) -> None:
    """Raise NotPlain where the members of a zip archive would take more memory than a file may have bytes."""
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > LIMITS[".npz"]:
        raise NotPlain(f"its arrays take {size:,} bytes")


class Arrays(Mapping[str, np.ndarray]):
    """The arrays of an ``.npz`` file; empty if the file is missing or damaged."""

    def __init__(self, path: Path) -> None:
        self._read: dict[str, np.ndarray] = {}
        try:
            check_plain(path)
            check_unpacked(path)
            self._file: Mapping[str, np.ndarray] = np.load(path, allow_pickle=False)
            self._names = list(self._file)
        except (*BROKEN, TypeError):
            self._file, self._names = {}, []

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._read:
            try:
                self._read[name] = self._file[name]
            except BROKEN as error:
                raise KeyError(name) from error
        return self._read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
