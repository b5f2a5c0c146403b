"""Which devices this machine has, and a lease of some for the lifetime of a run.

GPUs are counted without CUDA: a process that has touched it must not be forked.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from filelock import FileLock

WAIT_SECONDS = 0.2
MOST_SHARERS = 16
"""How many runs may share a device at most; so many locks has each."""


def cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@cache
def listed_gpus() -> dict[str, str]:
    """Return the GPUs of this machine, index to UUID; for one that is divided, its parts by their UUIDs."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_listing(told)


def parse_listing(text: str) -> dict[str, str]:
    """Return index to UUID from what ``nvidia-smi -L`` prints; MIG instances stand in place of their GPU."""
    found: dict[str, str] = {}
    index = ""
    for line in text.splitlines():
        if gpu := re.match(r"GPU (\d+): .*\(UUID: (\S+)\)", line):
            index = gpu[1]
            found[index] = gpu[2]
        elif part := re.match(r"\s+MIG .*\(UUID: (\S+)\)", line):
            found.pop(index, None)
            found[part[1]] = part[1]
    return found


def visible_gpus(listed: dict[str, str], asked: str | None) -> dict[str, str]:
    """Return what ``CUDA_VISIBLE_DEVICES`` lets a process see: what to call a device, to its UUID.

    ``asked`` is the variable's value, None if it is not set. As CUDA does, stop at the first name that
    names no device.
    """
    if asked is None:
        return {uuid: uuid for uuid in listed.values()}
    found: dict[str, str] = {}
    for name in asked.split(","):
        name = name.strip()
        uuids = [uuid for uuid in listed.values() if name and uuid.startswith(name)]
        uuid = listed.get(name) or (uuids[0] if len(uuids) == 1 else None)
        if uuid is None:
            break
        found[name] = uuid
    return found


def gpus() -> dict[str, str]:
    """Return the GPUs that this process may use: what to call each, to its UUID."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible_gpus(listed_gpus(), asked) if asked != "" else {}


def gpus_wanted(trainer: Any, available: int) -> int:
    """Return how many of the ``available`` GPUs a run leases; 0 for a run on the CPU.

    ``trainer`` is the config's node. A list of devices is the user's own choice: none is leased.
    """
    if trainer.accelerator not in ("auto", "gpu", "cuda") or not available:
        return 0
    devices = trainer.devices
    if devices in ("auto", -1, "-1"):
        return available
    return min(int(devices), available) if isinstance(devices, int) or str(devices).isdigit() else 0


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
    """Hold ``count`` of the devices ``names`` that no other process holds; wait until so many are free.

    With ``sharers``, from 2 to ``MOST_SHARERS``, so many processes that all ask for this may hold a device
    at a time; none of them shares it with one that wants it alone. Those who wait for the same device are
    served one after the other, so that a run on two devices is not starved by runs on one. A crash
    releases what was held.
    """
    if not 0 <= count <= len(names):
        raise ValueError(f"{count} of {len(names)} devices")
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        with ExitStack() as queues:
            for name in sorted(names):  # in one order for all, or two could wait for each other
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
    """Return held locks of the device: one of the first ``sharers``, or all; None if others have them."""
    from filelock import FileLock

    locks = (FileLock(_file(folder, name, kind), timeout=0) for kind in _LOCKS)
    if sharers == 1:
        return _held(locks)
    return next(filter(None, (_held([lock]) for lock in islice(locks, sharers))), None)


_LOCKS = ("lock", *(f"lock{number}" for number in range(1, MOST_SHARERS)))


def _held(locks: Iterable[FileLock]) -> ExitStack | None:
    """Return all of the locks, held; None if another process has one of them."""
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


def numbered(place: str) -> str:
    """Return ``cuda:3`` for ``cuda:GPU-8f...``, as sweeps name GPUs; every other place as it is."""
    numbers = {uuid: number for number, uuid in listed_gpus().items()} if "GPU-" in place else {}
    uuid = place.removeprefix("cuda:")
    return f"cuda:{numbers[uuid]}" if uuid in numbers else place
