"""Read files of a record with limits, so that reading ends and fits into memory whatever they contain."""

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
"""Maximum size of a file in bytes, by suffix."""
LONGEST_NAME = 200
"""Maximum length of names of pruners, networks, data sets and layers."""
MOST_NODES = 200_000
"""Maximum number of values in a parsed file; a value with several aliases counts each time."""


class NotPlain(ValueError):
    """Not a regular file, or a file larger than what a run writes; the message is one line."""


def check_plain(path: Path) -> int:
    """Return the size of a regular file in bytes.

    Raises:
        NotPlain: a folder, a device, a pipe or a socket, or a file above the limit of its suffix.
        OSError: the file does not exist or is not accessible.
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
    # O_NONBLOCK: do not wait if a pipe replaces the file in the meantime.
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)), "rb") as file:
        return file.read(max(size, 1) + MEBIBYTE)


def read_text(path: Path) -> str:
    """Return the text of a regular file of bounded size, with ``\\n`` for every line ending."""
    return read_bytes(path).decode().replace("\r\n", "\n").replace("\r", "\n")


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        ValueError: the file is incomplete or contains something else; the message is one line.
        OSError: the file does not exist or cannot be read.
    """
    try:
        value = json.loads(read_bytes(path))
    except NotPlain:
        raise
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not a whole JSON file ({' '.join(str(error).split())[:200]})") from error
    if not isinstance(value, dict):
        raise ValueError("contains no JSON object")
    return value


def check_nodes(value: Any, most: int = MOST_NODES) -> None:
    """Raise NotPlain if ``value`` contains more than ``most`` values, which aliases in YAML can cause."""
    count, waiting = 0, [value]
    while waiting:
        node = waiting.pop()
        count += 1
        if count > most:
            raise NotPlain(f"it contains more than {most:,} values")
        if isinstance(node, dict):
            waiting.extend(node.values())
        elif isinstance(node, (list, tuple)):
            waiting.extend(node)
