"""Files that are whole or not there: written aside, brought to the disk, then renamed."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
ASIDE = ".*.partial"
"""What a killed process may leave of the files that it was writing."""

_numbers = itertools.count()


class OutputLost(RuntimeError):
    """A run can no longer write its files, or read them again; the message is one line."""

    def __init__(self, folder: str | Path, why: str) -> None:
        self.folder, self.why = folder, why
        super().__init__(f"output_dir={folder}: {why}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the arguments, so that the error crosses process borders whole."""
        return type(self), (self.folder, self.why)


class DiskFull(OutputLost):
    """There is no space for what a run writes; the message is one line."""

    def __init__(self, folder: str | Path) -> None:
        why = "no space left on the device; make some, and the same command goes on from what is saved"
        super().__init__(folder, why)

    def __reduce__(self) -> tuple[type[DiskFull], tuple[str | Path]]:
        """Pickle by the folder."""
        return type(self), (self.folder,)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a file that takes the place of ``path`` when the block ends, and not if it raises.

    A reader sees the old file or the new one, never a part, whenever the process or the machine dies.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{next(_numbers)}.partial")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        fsync_folder(path.parent)
    finally:
        aside.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that a reader sees the old file or the new one, never a part."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path) as file:
        file.write(data)


def fsync_folder(folder: Path) -> None:
    """Bring the names in ``folder`` to the disk: without it a power cut may undo a rename."""
    with suppress(PermissionError):  # Windows opens no folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partial_files(folder: Path) -> None:
    """Remove what killed processes left below ``folder``; nobody else may be writing there."""
    for left in folder.rglob(ASIDE):
        left.unlink(missing_ok=True)


def os_errors(error: BaseException | None) -> Iterator[OSError]:
    """Yield the operating system's errors behind an error, itself included."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk, or a quota used up, is behind an error."""
    return any(found.errno in FULL for found in os_errors(error))


def lost_output(error: BaseException, folder: Path) -> OutputLost | None:
    """Return why a run can no longer use its ``folder``, None if that is not what is behind ``error``."""
    if isinstance(error, OutputLost):
        return error
    if is_full(error):
        return DiskFull(folder)
    found = [e for e in os_errors(error) if e.filename is not None and _is_below(e.filename, folder)]
    if not found:
        return None
    if not folder.is_dir():
        why = (
            "the folder was removed or renamed while the run was under way; the same command starts it again"
        )
        return OutputLost(folder, why)
    reason = found[0].strerror or type(found[0]).__name__
    return OutputLost(folder, f"{Path(os.fsdecode(found[0].filename)).name} cannot be used: {reason}")


def _is_below(name: str | bytes | int, folder: Path) -> bool:
    if isinstance(name, int):
        return False
    return Path(os.path.abspath(os.fsdecode(name))).is_relative_to(os.path.abspath(folder))


def say_of_full_disks_once() -> None:
    """Print no traceback where a log or TensorBoard's thread meets a full disk: the run says it in a line."""
    logging.raiseExceptions = False

    def failed(args: threading.ExceptHookArgs) -> None:
        if not is_full(args.exc_value):
            threading.__excepthook__(args)

    threading.excepthook = failed
