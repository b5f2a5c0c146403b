"""Take away what Hydra and prunelit wrote for a run that was then refused."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from shutil import rmtree

from prunelit.study.sweep.lock import lock_file

FILES = {".hydra", "train.log", "tensorboard"}
"""What a folder may hold before anything of a run is done."""

_made: list[Path] = []


def note_new_folders(folder: Path) -> None:
    """Note which of ``folder`` and its parents do not exist yet, before Hydra makes them."""
    folder = folder.absolute()
    _made[:] = [path for path in (folder, *folder.parents) if not path.exists()]


def remove_new_folders() -> None:
    """Remove the folders that were made for a refused run, as far as nothing else is in them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    if not _made:
        return
    folder = _made[0]
    with suppress(OSError):
        if {path.name for path in folder.iterdir()} <= FILES:
            rmtree(folder)
            lock = lock_file(folder)
            lock.unlink(missing_ok=True)
            for parent in (lock.parent, lock.parent.parent, *_made[1:]):
                with suppress(OSError):
                    parent.rmdir()
    _made.clear()
