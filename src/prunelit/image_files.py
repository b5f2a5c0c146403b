"""Which files below a folder are images, by name and kind: no file is opened, and the search always ends."""

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
"""Suffixes of the image formats that Pillow reads by itself, in any case.

Left out are documents and videos (PDF, PostScript, MPEG), and formats for which Pillow needs another program.
"""
CACHE = "prunelit-cache"
"""The folder of decoded images, beside the images."""
SYSTEM_NAMES = frozenset(
    {
        *("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found", "__pycache__"),
        *("thumbs.db", "desktop.ini", CACHE),
    }
)
"""Lower-case names of what operating systems and programs leave in folders; names with a dot count too."""


class Kind(Enum):
    """What an entry of a folder is."""

    IMAGE = "an image"
    HIDDEN = "hidden, or of the operating system"
    OTHER = "of another suffix"
    SEEN = "links to a folder around it, or to one that was read already"
    BROKEN = "a link that leads nowhere"
    SPECIAL = "neither a file nor a folder"


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name is never looked at."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def has_suffix(name: str) -> bool:
    """Whether a file of this name is taken for an image."""
    return name.lower().endswith(SUFFIXES)


def sorted_entries(folder: str | os.PathLike[str]) -> list[os.DirEntry[str]]:
    """Return what lies in a folder in the order of the names; raises OSError."""
    with os.scandir(folder) as entries:
        return sorted(entries, key=lambda entry: entry.name)


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        yield from entries


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link that leads nowhere is none."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def entries_below(
    folder: str | os.PathLike[str], in_order: bool = True
) -> Iterator[tuple[os.DirEntry[str], Kind]]:
    """Yield every entry at any depth below ``folder`` but the folders that are entered, and its kind.

    Links are followed, but for those to a folder that holds ``folder``. A folder is read once, whatever
    links lead to it, so that loops end. The order is that of the names within each folder; without
    ``in_order`` the first entry comes sooner.

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
    """Return a path as one line of text, whatever bytes its names have; a very long one is cut."""
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
