"""The machine that a run uses: its device, threads and memory, and the versions of what ran."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch

PACKAGES = ("prunelit", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "fvcore")
"""Packages whose versions the result names."""


def device_name(trainer: pl.Trainer) -> str:
    """Return the device as this machine, or ``CUDA_VISIBLE_DEVICES``, names it: ``cpu`` or ``cuda:3``."""
    device = trainer.strategy.root_device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if device.type != "cuda" or not visible[0] or (device.index or 0) >= len(visible):
        return str(device)
    return f"cuda:{visible[device.index or 0]}"


def forget_peak_memory() -> None:
    """Let the largest use of memory be that from now on: earlier runs of this process do not count."""
    with suppress(OSError):  # only Linux can: elsewhere the whole process counts
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def environment(trainer: pl.Trainer) -> dict[str, Any]:
    """Return device, precision, memory and versions."""
    device = trainer.strategy.root_device
    cuda = device.type == "cuda"
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine() + " " + device.type,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else resident,
        **software(),
    }


@cache
def software() -> dict[str, Any]:
    """Return the versions of Python and of packages, and the commit of this checkout, as first found."""
    versions = {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}
    return {"versions": versions, "git": _commit()}


def _version(package: str) -> str | None:
    """Return the version of an installed package; None for one that is only on the path."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit of this checkout, with ``+`` for uncommitted changes; None elsewhere."""
    here = Path(__file__).parent
    try:
        describe = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
