"""Where a benchmark ran and with what."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from typing import Any

PACKAGES = ("torch", "torchvision", "lightning", "hydra-core", "numpy")


def setting(device: str = "cpu") -> dict[str, Any]:
    """Return the device, cores, threads, whether loops are compiled, the load of a minute, and versions."""
    import torch

    from prunelit.pruning import loops

    cuda = device.startswith("cuda")
    return {
        "device": torch.cuda.get_device_name() if cuda else f"{platform.machine()} cpu",
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "compiled_loops": loops.available(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
    }
