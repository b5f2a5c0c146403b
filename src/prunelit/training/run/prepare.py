"""What a sweep does in one process before its runs: import what they need, and refuse what cannot run."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

NEEDED = (
    "fvcore.nn",
    "safetensors.torch",
    "torch.export._trace",  # which torch.export.export imports when it is first called
    "torch.utils.tensorboard",
    "torchvision",
    "prunelit.pruning.flops",
    "prunelit.pruning.paths",
    "prunelit.pruning.criteria",
    "prunelit.training.packed.group",
    "prunelit.training.run.parts",
    "prunelit.training.run.result",
    "prunelit.training.models",
)


def prepare() -> None:
    """Import what runs need, so that each can be forked from a process that has it."""
    for module in NEEDED:
        import_module(module)


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
