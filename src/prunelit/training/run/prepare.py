"""What a sweep does in one process before its runs: import what they need, and refuse what cannot run."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

NEEDED = (
    "fvcore.nn",
    "safetensors.torch",
    "torch.utils.tensorboard",
    "torchvision",
    "prunelit.pruning.flops",
    "prunelit.pruning.paths",
    "prunelit.pruning.criteria",
    "prunelit.training.export.recorded_network",
    "prunelit.training.packed.group",
    "prunelit.training.parallel.rank_processes",
    "prunelit.training.run.parts",
    "prunelit.training.run.result",
    "prunelit.training.models",
)
LATE = (
    "torch.export._trace",
    "torch._export.passes._node_metadata_hook",
    "torch._export.passes.replace_autocast_with_hop_pass",
    "torch._export.passes.replace_set_grad_with_hop_pass",
    "torch._inductor.compiler_bisector",
    "torch._inductor.fx_passes.dedupe_symint_uses",
    "torch._inductor.sizevars",
    "torch._subclasses.schema_check_mode",
    "torch.fx.experimental.validator",
    "torch.utils.serialization.config",
    "fsspec.implementations.chained",
)
"""What torch imports when it first exports a network or saves a file; not every version has all of it."""


def prepare() -> None:
    """Import what runs need and find out versions, so that each run can be forked from this process."""
    for module in NEEDED:
        import_module(module)
    for module in LATE:
        with suppress(ImportError):
            import_module(module)
    import_module("prunelit.training.run.machine").software()
    _call_once()


def _call_once() -> None:
    """Call what takes long when it is called first, with a small network, unless there may be a GPU.

    Autograd would begin to use a GPU, which must not happen before a fork or before a run has its GPU.
    """
    from torch import nn, version, zeros

    if version.hip or version.xpu or _has_cuda_driver():
        return
    from prunelit.pruning.coupling.groups import found_groups
    from prunelit.pruning.preserve import random_state
    from prunelit.training.metrics import Totals

    with random_state(0), suppress(Exception):  # a run that needs it reports what is wrong
        found_groups(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), zeros(1, 2))
        Totals()


def _has_cuda_driver() -> bool:
    """Return whether CUDA's driver can be loaded, without which no process can use an NVIDIA GPU."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def check_parts(cfg: DictConfig) -> None:
    """Raise BadRequest for a key of any group that is unknown or wrong, or for a device that is not there."""
    from prunelit.training.config.keys import check_config
    from prunelit.training.run.trainer import check_trainer

    check_config(cfg)
    check_trainer(cfg)


def together() -> Callable[..., list[Any]]:
    """Return the function that executes several runs in one process, in which they train together."""
    from prunelit.training.packed.group import train_in_turns

    return train_in_turns


def runs_that_fit(cfg: DictConfig, memory_gb: float | None) -> int:
    """Return how many runs with a config fit into half of the free memory, or into ``memory_gb``."""
    from prunelit.training.run import runs_in_memory

    return runs_in_memory.runs_that_fit(cfg, memory_gb)


def refuse(cfg: DictConfig) -> None:
    """Raise BadRequest for what a run would refuse, as far as that is seen without loading data."""
    from prunelit.training.run.parts import try_parts

    try_parts(cfg)


FOR_SWEEPS = (refuse, prepare, check_parts, together, runs_that_fit)
"""The functions that a sweep takes as its ``Invocation``."""
