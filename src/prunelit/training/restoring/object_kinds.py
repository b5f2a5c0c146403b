"""Distinguish objects with the state of a training from constants, libraries and infrastructure."""

from __future__ import annotations

import enum
import sys
import types
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

ATOMS = (
    *(type(None), bool, int, float, complex, str, bytes, slice, range, type(...), enum.Enum),
    *(types.ModuleType, types.BuiltinFunctionType, types.CodeType, types.MappingProxyType),
    *(torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format),
)
WALKED = ("collections", "queue", "builtins", "types", "argparse", "__main__", "__mp_main__", "random")
"""Modules of the standard library whose objects are recorded; others contain threads, files and so on."""
MACHINERY = (
    *("torch._", "torch.distributed", "torch.utils.tensorboard", "torch.fx", "torch.jit", "torch.profiler"),
    *("torch.multiprocessing", "tensorboard", "tensorboardX", "wandb", "mlflow", "hydra", "omegaconf"),
    *("lightning", "pytorch_lightning", "lightning_fabric", "prunelit"),
)
STATEFUL = {
    *("LightningModule", "LightningDataModule", "CombinedLoader", "_ModeIterator", "Module", "Dataset"),
    *("DistributedSamplerWrapper", "_DatasetSamplerWrapper", "Sampler"),
}
"""Classes whose objects have state although they belong to one of the modules above."""
NEVER = {"Trainer", "Logger", "Strategy", "Pruning", "Criterion", "Thread", "BaseProcess", "_Loop"}


def is_atom(value: Any) -> bool:
    """Return whether ``value`` cannot change or is irrelevant."""
    return isinstance(value, ATOMS)


def is_data(value: Any) -> bool:
    """Return whether the tensors in ``value`` are data, which are large and only read."""
    return isinstance(value, (Dataset, DataLoader, Sampler, torch.optim.Optimizer)) or (
        "LightningDataModule" in _names(type(value))
    )


def has_state(value: Any) -> bool:
    """Return whether the attributes of ``value`` may be recorded and restored."""
    names, module = _names(type(value)), type(value).__module__
    if names & NEVER:
        return False
    if names & STATEFUL:
        return True
    root = module.partition(".")[0]
    if root in sys.stdlib_module_names or root in ("__main__", "__mp_main__"):
        return root in WALKED
    return not module.startswith(MACHINERY)


def slots_of(kind: type) -> Iterator[str]:
    """Yield the names of the attributes that objects of ``kind`` keep in slots."""
    for base in kind.__mro__:
        names = vars(base).get("__slots__", ())
        for name in (names,) if isinstance(names, str) else names:
            if name not in ("__dict__", "__weakref__"):
                private = name.startswith("__") and not name.endswith("__")
                yield f"_{base.__name__.lstrip('_')}{name}" if private else name


@cache
def is_library(module: str | None) -> bool:
    """Return whether a module is not the user's code, so that its functions and classes have no state."""
    root = (module or "builtins").partition(".")[0]
    if root in ("__main__", "__mp_main__"):
        return False
    if root in sys.stdlib_module_names or root == "prunelit":
        return True
    place = getattr(sys.modules.get(root), "__file__", None) or ""
    return "site-packages" in place or "dist-packages" in place


def _names(kind: type) -> frozenset[str]:
    return frozenset(base.__name__ for base in kind.__mro__)
