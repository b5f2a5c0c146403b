"""One process per run, ensured by a file lock that a crash releases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from prunelit.study.unwritable import refused_if_unwritable

PATIENCE_SECONDS = 0.3
"""How long to wait for a lock before a run counts as busy, because ``is_busy`` also takes it for a moment."""


class Busy(RuntimeError):
    """Another process works on a run."""

    def __init__(self, folder: Path) -> None:
        super().__init__(f"busy: another process works on {folder}")
        self.folder = folder

    def __reduce__(self) -> tuple[type[Busy], tuple[Path]]:
        """Pickle by the folder."""
        return type(self), (self.folder,)


def lock_file(folder: Path) -> Path:
    """Return the lock file of a run, outside of its folder, which ``rerun=true`` moves."""
    return folder.parent / ".sweep" / "locks" / f"{folder.name}.lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the run of ``folder``; the kernel releases the lock when this process ends for any reason.

    Raises:
        Busy: another process has locked it.
        BadRequest: the folder cannot be written.
    """
    from filelock import FileLock, Timeout  # not imported for wrong requests

    path = lock_file(folder)
    lock = FileLock(path, timeout=PATIENCE_SECONDS)
    try:
        with refused_if_unwritable():
            path.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
    except Timeout:
        raise Busy(folder) from None
    try:
        yield
    finally:
        lock.release()


def is_busy(folder: Path) -> bool:
    """Whether a process works on the run of ``folder``."""
    if not lock_file(folder).exists():
        return False
    try:
        with locked(folder):
            return False
    except Busy:
        return True
