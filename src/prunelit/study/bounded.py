"""Read a file of a record with limits: whatever lies there, reading it ends and fits into memory."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

MEBIBYTE = 2**20
LIMITS = {
    ".json": 16 * MEBIBYTE,
    ".txt": 16 * MEBIBYTE,
    ".yaml": 4 * MEBIBYTE,
    ".csv": 256 * MEBIBYTE,
    ".npz": 1024 * MEBIBYTE,
}
"""Bytes up to which a file is read, by its suffix."""
LONGEST_NAME = 200
"""Characters up to which names of pruners, networks, data sets and layers are believed."""
MOST_NODES = 200_000
"""Values that a parsed file may hold; a value that is named by many aliases counts each time."""


class NotPlain(ValueError):
    """Something that is no regular file, or one that is larger than what a run writes; one line."""


def check_plain(path: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        NotPlain: a folder, a device, a pipe or a socket, or a file beyond the limit of its suffix.
        OSError: there is no such file, or it cannot be looked at.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise NotPlain("it is not a regular file")
    limit = LIMITS.get(path.suffix)
    if limit is not None and found.st_size > limit:
        raise NotPlain(f"it has {found.st_size:,} bytes, more than the {limit:,} that are read")
    return found.st_size


def read_bytes(path: Path) -> bytes:
    """Return the bytes of a regular file of bounded size.

    Raises:
        NotPlain, OSError: as :func:`check_plain`.
    """
    size = check_plain(path)
    # O_NONBLOCK: a pipe that takes the file's place meanwhile is not waited for.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        return file.read(max(size, 1) + MEBIBYTE)


def read_text(path: Path) -> str:
    """Return the text of a regular file of bounded size, with ``\\n`` for every line ending."""
    return read_bytes(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: it is not whole or holds something else; the message is one line.
        OSError: there is no such file, or it cannot be read.
    """
    try:
        value = json.loads(read_bytes(path))
    except NotPlain:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a whole JSON file ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(value, dict):
        raise ValueError("holds no JSON object")
    return value


def check_nodes(value: Any, most: int = MOST_NODES) -> None:
    """Raise NotPlain if ``value`` holds more than ``most`` values, as aliases in YAML can make it."""
    count, waiting = 0, [value]
    while waiting:
        node = waiting.pop()
        count += 1
        if count > most:
            raise NotPlain(f"it holds more than {most:,} values")
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)
