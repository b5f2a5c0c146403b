"""The image files of class folders and their labels; ignored files are reported, wrong ones refused."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from prunelit.image_files import Kind, entries_below, has_image, is_hidden, printable, sorted_entries
from prunelit.notice import warn
from prunelit.training.data.layout import Refuse, class_names
from prunelit.training.data.sampling import Purpose, generator, stratified
from prunelit.training.data.source import Split

MOST_NAMED = 3
"""The number of paths named in the line on ignored files."""


class LeftOut:
    """Files among the images that are not images, reported in one line with their number per class folder."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.kinds: Counter[str] = Counter()
        self.classes: Counter[str] = Counter()
        self.paths: list[str] = []

    def add(self, path: str, what: str, class_folder: str = "") -> None:
        """Count an entry that was ignored."""
        self.kinds[what] += 1
        if class_folder:
            self.classes[class_folder] += 1
        self.paths.append(os.path.relpath(path, self.base))

    def warn_of_any(self, read: Counter[str]) -> None:
        """Warn about ignored files, if any; ``read`` contains the number of images of each folder."""
        if not self.paths:
            return
        kinds = ", ".join(f"{number} {what}" for what, number in self.kinds.most_common())
        named = ", ".join(map(printable, self.paths[:MOST_NAMED]))
        more = ", ..." if len(self.paths) > MOST_NAMED else ""
        parts = [
            f"{printable(os.path.relpath(folder, self.base))} has {read[folder]} images and {number} others"
            for folder, number in self.classes.most_common(MOST_NAMED)
        ]
        of_classes = f"; {', '.join(parts)}" if parts else ""
        warn(f"left out of {printable(self.base)}: {kinds} ({named}{more}){of_classes}")


class Lister:
    """Lists the images below class folders.

    Args:
        base: the folder of the data set, for messages.
        refuse: returns the error for it.
    """

    def __init__(self, base: Path, refuse: Refuse) -> None:
        self.base, self.refuse = base, refuse
        self.left_out, self.read = LeftOut(base), Counter[str]()

    def classes(self, folder: Path) -> list[str]:
        """Return the names of the class folders in ``folder``.

        Raises:
            BadRequest: there are fewer than two; the folder cannot be read, or a name is not UTF-8.
        """
        found = class_names(folder, self.refuse)
        if not found:
            raise self.refuse(f"{printable(folder)} has no class folders")
        if len(found) == 1:
            only = printable(folder / found[0])
            raise self.refuse(f"{only} is the only class folder, and there must be two or more")
        for name in found:
            try:
                name.encode()
            except UnicodeEncodeError:
                raise self.refuse(f"{printable(folder / name)}: the name of a class is not UTF-8") from None
        return found

    def check_not_empty(self, folder: Path) -> None:
        """Raise ``BadRequest`` if a class folder contains no image or cannot be read."""
        try:
            if has_image(folder):
                return
            others = Counter(Path(entry.name).suffix.lower() for entry, kind in entries_below(folder))
        except OSError as fault:
            raise self.refuse(_unreadable(folder, fault)) from fault
        found = ", ".join(f"{number} x {suffix or 'no suffix'}" for suffix, number in others.most_common(3))
        raise self.refuse(f"the class folder {printable(folder)} has no image (it has {found or 'no files'})")

    def note_loose(self, folder: Path) -> None:
        """Count the files in ``folder`` that are outside of class folders."""
        for entry in sorted_entries(folder):
            if is_hidden(entry.name):
                self.left_out.add(entry.path, Kind.HIDDEN.value)
            elif not Path(entry.path).is_dir():
                self.left_out.add(entry.path, "in no class folder")

    def split(self, folders: Sequence[tuple[Path, int]]) -> Split:
        """Return the images in labeled folders, folder by folder in the order of their paths.

        Raises:
            BadRequest: an entry with the name of an image is not a file, or a folder cannot be read.
        """
        files: list[str] = []
        labels: list[int] = []
        for folder, label in folders:
            try:
                found = self._images(folder)
            except OSError as fault:
                raise self.refuse(_unreadable(folder, fault)) from fault
            files += found
            labels += [label] * len(found)
        return Split(np.array(labels, np.int64), files=files)

    def _images(self, folder: Path) -> list[str]:
        found = []
        for entry, kind in entries_below(folder):
            if kind is Kind.IMAGE:
                found.append(entry.path)
            elif kind in (Kind.BROKEN, Kind.SPECIAL):
                raise self.refuse(f"{printable(entry.path)} is {kind.value}: remove it")
            else:
                self.left_out.add(entry.path, kind.value, str(folder))
        self.read[str(folder)] = len(found)
        return sorted(found, key=os.path.split)

    def say_left_out(self) -> None:
        """Warn about the files ignored so far."""
        self.left_out.warn_of_any(self.read)


def warn_of_untested(names: Sequence[str], labels: np.ndarray) -> None:
    """Warn about classes without test images."""
    counts = np.bincount(labels, minlength=len(names))
    if missing := [printable(name) for name, count in zip(names, counts, strict=True) if not count]:
        more = ", ..." if len(missing) > MOST_NAMED else ""
        listed = ", ".join(missing[:MOST_NAMED])
        warn(f"{len(missing)} of {len(names)} classes have no test images: {listed}{more}")


def put_aside(split: Split, share: float) -> tuple[Split, Split]:
    """Return the training and the test set: ``share`` of the images of each class, whatever the seed."""
    labels = torch.from_numpy(split.labels)
    rows = stratified(labels, round(share * len(labels)), generator(Purpose.TEST, 0)).numpy()
    test = np.zeros(len(labels), bool)
    test[rows] = True
    parts = []
    for chosen in (~test, test):
        files = [file for file, taken in zip(split.files, chosen, strict=True) if taken]
        parts.append(Split(split.labels[chosen], files=files))
    return parts[0], parts[1]


def _unreadable(folder: Path, fault: OSError) -> str:
    return f"{printable(fault.filename or folder)} cannot be read ({fault.strerror})"
