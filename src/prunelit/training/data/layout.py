"""Find the training and test images in a folder by the usual names of folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from prunelit.image_files import has_image, is_folder, is_hidden, printable, sorted_entries
from prunelit.request import BadRequest

TRAIN = ("train", "training")
TEST = ("test", "testing")
VALIDATION = ("val", "valid", "validation")
"""Names of folders, in any case."""
SHARED = "data.test_share=0.2 to test on a fifth of the images of each class"

Refuse = Callable[[str], BadRequest]
"""Returns the error for a ``data.root``, given the reason."""


@dataclass(frozen=True)
class Layout:
    """The training and test folders; without ``test``, a share of the training images is the test set.

    ``said`` is a line for the user if the folder of the test set is not called test.
    """

    train: Path
    test: Path | None
    said: str = ""


def layout_of(
    base: Path, test_kinds: Sequence[tuple[str, ...]], test_share: float | None, refuse: Refuse
) -> Layout:
    """Find the training and the test set in ``base``.

    Args:
        base: the folder to search.
        test_kinds: names of folders that may contain the test set; earlier kinds take precedence.
        test_share: the share of the images for the test set if there is none; None: refuse such a folder.
        refuse: returns the error.

    Raises:
        BadRequest: training and test images cannot be identified, or a test share is not needed; the message
            says what to do.
    """
    train = _one_of(base, TRAIN, refuse)
    if train is None:
        return _unsplit(base, test_share, refuse)
    classes = set(class_names(train, refuse))
    if not classes:
        raise refuse(f"{printable(train)} has no class folders")
    flat: list[Path] = []
    for kind in test_kinds:
        folder = _one_of(base, kind, refuse)
        if folder and classes.intersection(class_names(folder, refuse)):
            if folder.samefile(train):
                raise refuse(f"{_short(folder)} and {_short(train)} are the same folder")
            if test_share is not None:
                raise BadRequest("test_share", test_share, "null", f"{printable(folder)} is the test set")
            return Layout(train, folder, _said(folder, flat, _others(base, kind, test_kinds)))
        flat += [folder] if folder else []
    for folder in flat:
        if found := class_names(folder, refuse):
            raise refuse(f"{printable(folder / found[0])} is a class that {_short(train)} lacks")
    if test_share is not None:
        return Layout(train, None)
    share = f", or type {SHARED}" if len(test_kinds) > 1 else ""
    if flat:
        why = "has no class folders, so that the labels of its images are unknown"
        raise refuse(f"{printable(flat[0])} {why}: sort them into a folder for each class{share}")
    names = "/ or ".join(kind[0] for kind in test_kinds)
    raise refuse(f"{printable(base)} has no {names}/{share and f': add it{share}'}")


def has_class_folders(base: Path) -> bool:
    """Return whether ``base`` has a folder of training images with a folder for each class."""
    return any(
        has_image(inner.path)
        for entry in _folders(base)
        if entry.name.lower() in TRAIN
        for inner in _folders(Path(entry.path))
    )


def _folders(folder: Path) -> list[os.DirEntry[str]]:
    """Return the folders in a folder, none if it cannot be read."""
    try:
        return [entry for entry in sorted_entries(folder) if is_folder(entry)]
    except OSError:
        return []


def class_names(folder: Path, refuse: Refuse) -> list[str]:
    """Return the names of the class folders in ``folder``, in order, without hidden folders."""
    try:
        entries = sorted_entries(folder)
    except OSError as fault:
        raise refuse(f"{printable(folder)} cannot be read ({fault.strerror})") from fault
    return [entry.name for entry in entries if not is_hidden(entry.name) and is_folder(entry)]


def _one_of(base: Path, names: tuple[str, ...], refuse: Refuse) -> Path | None:
    found = [name for name in class_names(base, refuse) if name.lower() in names]
    if len(found) > 1:
        raise refuse(f"{printable(base)} has {'/ and '.join(found)}/: keep one of them")
    return base / found[0] if found else None


def _unsplit(base: Path, test_share: float | None, refuse: Refuse) -> Layout:
    """Return the layout of a folder without a training set, or raise an error with a suggestion."""
    without, folders = f"{printable(base)} has no train/", class_names(base, refuse)
    if base.name.lower() in TRAIN:
        raise refuse(f"{without}; did you mean data.root={printable(base.parent)}?")
    for name in folders:
        if any(inner.lower() in TRAIN for inner in class_names(base / name, refuse)):
            raise refuse(f"{without}; did you mean data.root={printable(base / name)}?")
    if any(name.lower() in (*TEST, *VALIDATION) for name in folders):
        raise refuse(without)
    if test_share is not None:
        return Layout(base, None)
    if number := sum(has_image(base / name) for name in folders):
        plural = f"{number} folders" if number > 1 else "a folder"
        raise refuse(f"{without} but {plural} of images: sort them into train/ and test/, or type {SHARED}")
    raise refuse(without)


def _others(base: Path, kind: tuple[str, ...], test_kinds: Sequence[tuple[str, ...]]) -> list[str]:
    """Return the folders of the later kinds."""
    later = [name for names in test_kinds[test_kinds.index(kind) + 1 :] for name in names]
    return [entry.name for entry in sorted_entries(base) if entry.name.lower() in later and is_folder(entry)]


def _said(test: Path, flat: list[Path], others: list[str]) -> str:
    """Return a line that names the folder of the test set; empty if its name is clear."""
    if others:
        why = f"{printable(others[0])}/ is not used (data.validation=0.1 takes images from train/)"
    elif flat:
        why = f"{_short(flat[0])} has no class folders"
    elif test.name.lower() in TEST:
        return ""
    else:
        why = "there is no test/"
    return f"the test set is {_short(test)}: {why}"


def _short(folder: Path) -> str:
    return f"{printable(folder.name)}/"
