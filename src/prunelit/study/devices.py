"""The devices of this machine.

GPUs are counted without CUDA, because a process that has initialized CUDA must not be forked.
"""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache


def cores() -> int:
    """Return how many cores this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed else os.cpu_count() or 1


@cache
def listed_gpus() -> dict[str, str]:
    """Return the GPUs of this machine, index to UUID; for a divided GPU, the UUIDs of its instances."""
    try:
        told = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return parse_listing(told)


def parse_listing(text: str) -> dict[str, str]:
    """Return index to UUID from what ``nvidia-smi -L`` prints; MIG instances replace their GPU."""
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
    """Return the devices that ``CUDA_VISIBLE_DEVICES`` makes visible: name to UUID.

    ``asked`` is the variable's value, None if it is not set. Like CUDA, stop at the first name that is not a
    device.
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
    """Return the GPUs that this process may use: name to UUID."""
    asked = os.environ.get("CUDA_VISIBLE_DEVICES")
    return visible_gpus(listed_gpus(), asked) if asked != "" else {}


def numbered(place: str) -> str:
    """Return ``cuda:3`` for ``cuda:GPU-8f...``, as sweeps name GPUs; other device names are not changed."""
    numbers = {uuid: number for number, uuid in listed_gpus().items()} if "GPU-" in place else {}
    uuid = place.removeprefix("cuda:")
    return f"cuda:{numbers[uuid]}" if uuid in numbers else place
