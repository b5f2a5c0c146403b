"""Write files atomically: under another name, flushed to the disk, then renamed."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import threading
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
ASIDE = ".*.partial"
"""Suffix of partial files, which a killed process may leave."""
BUFFER_BYTES = 2**20
"""Bytes that are collected before they are written; a checkpoint consists of many short pieces."""


class OutputLost(RuntimeError):
    """A run can no longer write its files, or read them again; the message is one line."""

    def __init__(self, folder: str | Path, why: str) -> None:
        self.folder, self.why = folder, why
        super().__init__(f"output_dir={folder}: {why}")

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the arguments, so that the error can be sent between processes."""
        return type(self), (self.folder, self.why)


class DiskFull(OutputLost):
    """The disk is full; the message is one line."""

    def __init__(self, folder: str | Path) -> None:
        why = "no space left on the device; free some space and repeat the command to resume"
        super().__init__(folder, why)

    def __reduce__(self) -> tuple[type[DiskFull], tuple[str | Path]]:
        """Pickle by the folder."""
        return type(self), (self.folder,)


@contextmanager
def replacing(path: Path, flushed: bool = True) -> Iterator[BinaryIO]:
    """Open a file that replaces ``path`` when the block ends, but not if it raises an exception.

    A reader sees the old or the new file and never a part, also if the process or the machine stops. Without
    ``flushed``, the file is not flushed to the disk and may be damaged if the machine stops; this is faster,
    for contents that are also elsewhere.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    try:
        with aside.open("wb", buffering=BUFFER_BYTES) as file:
            yield file
            if flushed:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
        if flushed:
            fsync_folder(path.parent)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def write_atomically(path: Path, content: str | bytes, flushed: bool = True) -> None:
    """Write ``content`` to ``path``; the file is replaced as by :func:`replacing`."""
    data = content.encode() if isinstance(content, str) else content
    with replacing(path, flushed) as file:
        file.write(data)


def is_whole(path: Path) -> bool:
    """Whether the file is a zip archive, as ``torch.save`` makes, whose every part has its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError):
        return False


def fsync_folder(folder: Path) -> None:
    """Flush the directory ``folder`` to the disk; otherwise a power failure may undo a rename."""
    with suppress(PermissionError):  # Windows cannot open directories
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_partial_files(folder: Path) -> None:
    """Remove partial files of killed processes from ``folder``; no other process may be writing there."""
    for left in folder.rglob(ASIDE):
        left.unlink(missing_ok=True)


def os_errors(error: BaseException | None) -> Iterator[OSError]:
    """Yield the operating system errors that caused an error, including itself."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError):
            yield error
        error = error.__cause__ or error.__context__


def is_full(error: BaseException | None) -> bool:
    """Whether a full disk or an exhausted quota caused an error."""
    return any(found.errno in FULL for found in os_errors(error))


def lost_output(error: BaseException, folder: Path) -> OutputLost | None:
    """Return why a run can no longer use its ``folder``, None if ``error`` has another cause."""
    if isinstance(error, OutputLost):
        return error
    if is_full(error):
        return DiskFull(folder)
    found = [e for e in os_errors(error) if e.filename is not None and _is_below(e.filename, folder)]
    if not found:
        return None
    if not folder.is_dir():
        why = "the folder was removed or renamed during the run; repeat the command to start again"
        return OutputLost(folder, why)
    reason = found[0].strerror or type(found[0]).__name__
    return OutputLost(folder, f"{Path(os.fsdecode(found[0].filename)).name} cannot be used: {reason}")


def _is_below(name: str | bytes | int, folder: Path) -> bool:
    if isinstance(name, int):
        return False
    return Path(os.path.abspath(os.fsdecode(name))).is_relative_to(os.path.abspath(folder))


def say_of_full_disks_once() -> None:
    """Print no traceback if a log or TensorBoard's thread finds a full disk: the run reports it in one
    line."""
    logging.raiseExceptions = False

    def failed(args: threading.ExceptHookArgs) -> None:
        if not is_full(args.exc_value):
            threading.__excepthook__(args)

    threading.excepthook = failed
