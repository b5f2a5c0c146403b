"""Remove what Hydra and prunelit wrote for a run or sweep that was then refused."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree

from prunelit.request import BadRequest
from prunelit.study.invocation import Invocation
from prunelit.study.lock import lock_file

FILES = {".hydra", "train.log", "tensorboard", "folders.json"}
"""Files that the folder of a run, or ``.sweep`` of a study, may contain before a run starts."""


@contextmanager
def leaving_nothing(folder: Path) -> Iterator[None]:
    """Remove ``folder`` and its new parents if what happens inside the block is refused."""
    note_new_folders(folder)
    try:
        yield
    except BadRequest:
        remove_new_folders()
        raise


def note_new_folders(folder: Path) -> None:
    """Record which of ``folder`` and its parents do not exist yet, before Hydra creates them."""
    folder = folder.absolute()
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    Invocation.current().new_folders = new


def _end_logs_in(folder: Path) -> None:
    """Stop logging to files in ``folder``, which a closed handler would open again."""
    root = logging.getLogger()
    for handler in list(root.handlers):
        if isinstance(handler, logging.FileHandler) and Path(handler.baseFilename).is_relative_to(folder):
            root.removeHandler(handler)
            handler.close()
            root.addHandler(logging.NullHandler())  # otherwise warnings would go to standard error


def remove_new_folders() -> None:
    """Remove the folders that were created for the refused run, if they contain nothing else."""
    invocation = Invocation.current()
    made, invocation.new_folders = invocation.new_folders, []
    if not made:
        return
    folder = made[0]
    _end_logs_in(folder)
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= FILES:
            rmtree(folder)
            lock = lock_file(folder)
            lock.unlink(missing_ok=True)
            for parent in (lock.parent, lock.parent.parent, *made[1:]):
                with suppress(OSError):
                    parent.rmdir()
