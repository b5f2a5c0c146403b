"""A lease of some of this machine's devices, for the lifetime of a run."""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prunelit.study.options import MOST_SHARERS

if TYPE_CHECKING:
    from filelock import FileLock

WAIT_SECONDS = 0.2


def gpus_wanted(trainer: Any, available: int) -> int:
    """Return how many of the ``available`` GPUs a run leases; 0 for a run on the CPU.

    ``trainer`` is the node of the config. If the user gives a list of devices, none is leased.
    """
    if trainer.accelerator not in ("auto", "gpu", "cuda") or not available:
        return 0
    devices = trainer.devices
    if devices in ("auto", -1, "-1"):
        return available
    return min(int(devices), available) if isinstance(devices, int) or str(devices).isdigit() else 0


def processes(trainer: Any) -> int:
    """Return the number of processes of a run on the CPU, one per device."""
    devices = str(trainer.devices)
    return max(1, int(devices)) if devices.isdigit() else 1


def lease_folder() -> Path:
    """Return the folder of this user's device locks on this machine."""
    user = os.getuid() if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir(), f"prunelit-devices-{user}")
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    return folder


@contextmanager
def leased(names: Sequence[str], count: int, folder: Path, sharers: int = 1) -> Iterator[list[str]]:
    """Lease ``count`` of the devices ``names`` that no other process has leased; wait until they are free.

    With ``sharers``, from 2 to ``MOST_SHARERS``, up to this number of processes that all pass ``sharers``
    share a device; none of them shares it with a process that does not. Processes that wait for the same
    device are served in order, so that runs on one device do not starve a run on two. A crash releases the
    lease.
    """
    if not 0 <= count <= len(names):
        raise ValueError(f"{count} of {len(names)} devices")
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with ExitStack() as queues:
            for name in sorted(names):  # in the same order for all processes, to avoid a deadlock
                queues.enter_context(FileLock(_file(folder, name, "queue")))
            mine: list[str] = []
            while len(mine) < count:
                for name in names:
                    if len(mine) < count and name not in mine and (locks := _taken(folder, name, sharers)):
                        held.enter_context(locks)
                        mine.append(name)
                if len(mine) < count:
                    time.sleep(WAIT_SECONDS)
        yield sorted(mine, key=list(names).index)


def _taken(folder: Path, name: str, sharers: int) -> ExitStack | None:
    """Return locks of the device: one of the first ``sharers``, or all; None if they are taken."""
    from filelock import FileLock

    locks = (FileLock(_file(folder, name, kind), timeout=0) for kind in _LOCKS)
    if sharers == 1:
        return _held(locks)
    return next(filter(None, (_held([lock]) for lock in islice(locks, sharers))), None)


_LOCKS = ("lock", *(f"lock{number}" for number in range(1, MOST_SHARERS)))


def _held(locks: Iterable[FileLock]) -> ExitStack | None:
    """Take and return all locks; None if another process has one of them."""
    from filelock import Timeout

    with ExitStack() as held:
        for lock in locks:
            try:
                held.enter_context(lock.acquire())
            except Timeout:
                return None
        return held.pop_all()


def _file(folder: Path, name: str, kind: str) -> Path:
    return folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', name)}.{kind}"
