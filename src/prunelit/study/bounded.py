"""Read files of a record with limits, so that reading ends and fits into memory for any content."""

from __future__ import annotations

import json
import os
import stat
import sys
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
MOST_CONFIG_NODES = 20_000
"""The same for a config, which has about a hundred values."""
LENGTH_OF_A_VALUE = 100
"""Each multiple of this number of characters in a text counts as another value."""
MOST_LEVELS = 50
"""Maximum depth of lists and mappings in a parsed file, far below Python's limit of recursion."""


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
    check_nodes(value)
    return value


def check_nodes(value: Any, most: int = MOST_NODES) -> None:
    """Raise NotPlain if ``value`` is too large to be processed.

    It must not contain more than ``most`` values (to which aliases in YAML can expand), levels that are too
    deep, or, in a config, integers that no float can represent; integers of a result are checked by key.
    """
    count, waiting = 0, [(value, 0)]
    while waiting:
        node, level = waiting.pop()
        count += 1
        if count > most:
            raise NotPlain(f"it contains more than {most:,} values")
        if level > MOST_LEVELS:
            raise NotPlain(f"its values are nested more than {MOST_LEVELS} levels deep")
        if isinstance(node, str):
            count += len(node) // LENGTH_OF_A_VALUE
        if most == MOST_CONFIG_NODES and isinstance(node, int) and abs(node) > sys.float_info.max:
            raise NotPlain("it contains an integer that is too large for a float")
        if isinstance(node, dict):
            waiting.extend((inner, level + 1) for inner in node.values())
        elif isinstance(node, (list, tuple, set)):
            waiting.extend((inner, level + 1) for inner in node)
