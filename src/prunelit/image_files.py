"""Find images in a folder by name and kind. No file is opened, and the search always ends."""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

SUFFIXES = (
    *(".apng", ".avif", ".avifs", ".blp", ".bmp", ".bw", ".cur", ".dcx", ".dds", ".dib", ".fit", ".fits"),
    *(".flc", ".fli", ".ftc", ".ftu", ".gbr", ".gif", ".icb", ".icns", ".ico", ".im", ".j2c", ".j2k"),
    *(".jfif", ".jp2", ".jpc", ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".msp", ".pbm", ".pcd"),
    *(".pcx", ".pfm", ".pgm", ".png", ".pnm", ".ppm", ".psd", ".pxr", ".qoi", ".ras", ".rgb", ".rgba"),
    *(".sgi", ".tga", ".tif", ".tiff", ".vda", ".vst", ".webp", ".xbm", ".xpm"),
)
"""Suffixes of the image formats that Pillow reads without other programs, in lower case.

Documents and videos (PDF, PostScript, MPEG) are excluded, as are formats for which Pillow needs another
program.
"""
CACHE = "prunelit-cache"
"""The folder of decoded images, in the folder of the images."""
SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
        *("thumbs.db", "desktop.ini", CACHE),
    }
)
"""Lower-case names of files that operating systems and programs leave in folders."""


class Kind(Enum):
    """The kind of an entry of a folder."""

    IMAGE = "an image"
    HIDDEN = "hidden, or files of the operating system"
    OTHER = "with another suffix"
    SEEN = "links to a parent folder, or to a folder that was already read"
    BROKEN = "a link without a target"
    SPECIAL = "neither a file nor a folder"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is always ignored."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def has_suffix(name: str) -> bool:
    """Whether a file has the name of an image."""
    return name.lower().endswith(SUFFIXES)


def sorted_entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return the entries of a folder, sorted by name; raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to a folder; a link without a target is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def entries_below(
    folder: str | os.PathLike[str], in_order: bool = True
) -> Iterator[tuple[os.DirEntry[str], Kind]]:
    """Yield every entry at any depth below ``folder`` except the folders that are entered, with its kind.

    Links are followed, except those to a parent of ``folder``. Each folder is read once, so that cycles end.
    Entries are sorted by name within each folder; without ``in_order`` the first entry is found sooner.

    Raises:
        OSError: a folder cannot be read.
    """
    own = Path(folder).absolute()
    waiting, seen = [os.fspath(folder)], {_identity(os.stat(place)) for place in (own, *own.parents)}
    while waiting:
        parent = waiting.pop()
        for entry in sorted_entries(parent) if in_order else _entries(parent):
            if is_hidden(entry.name):
                yield entry, Kind.HIDDEN
            elif not is_folder(entry):
                yield entry, _kind(entry)
            elif (identity := _identity(entry.stat())) in seen:
                yield entry, Kind.SEEN
            else:
                seen.add(identity)
                waiting.append(entry.path)


def has_image(folder: str | os.PathLike[str]) -> bool:
    """Whether an image lies below ``folder``; looks at one entry of a good folder."""
    return any(kind is Kind.IMAGE for _, kind in entries_below(folder, in_order=False))


def printable(path: object) -> str:
    """Return a path as one line of text, whatever bytes its names contain; very long paths are shortened."""
    text = "".join(
        char if char.isprintable() else char.encode("unicode_escape", "backslashreplace").decode()
        for char in os.fsdecode(path if isinstance(path, (str, bytes, os.PathLike)) else str(path))
    )
    return text if len(text) <= 300 else f"{text[:140]}...{text[-140:]}"


def _kind(entry: os.DirEntry[str]) -> Kind:
    if not has_suffix(entry.name):
        return Kind.OTHER
    try:
        if entry.is_file():
            return Kind.IMAGE
        entry.stat()
    except OSError:
        return Kind.BROKEN
    return Kind.SPECIAL


def _identity(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino
