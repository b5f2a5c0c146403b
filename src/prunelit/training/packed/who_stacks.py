"""Which runs may be stacked, by what their trainer has at the start of an epoch."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from prunelit.pruning.masks import Masks
from prunelit.training.callback import Pruning
from prunelit.training.data.loaders import InMemoryLoader
from prunelit.training.epoch_loop import why_step_by_step
from prunelit.training.holding.holding_callback import HoldingCallback
from prunelit.training.packed.stacked_optimizer import why_not_stacked

STATELESS = ("torch.nn.modules", "torchvision.models", "torchvision.ops", "prunelit.training.models")
"""Packages whose modules keep no state outside of parameters and buffers."""
OWN = ("prunelit", "lightning", "pytorch_lightning")


def why_alone(trainer: pl.Trainer) -> str:
    """Return why the run of ``trainer`` cannot be stacked with others; empty if it can."""
    module: Any = trainer.lightning_module
    return (
        why_step_by_step(trainer)
        or _of_trainer(trainer)
        or why_not_stacked(trainer.optimizers[0], module.network)
        or _of_network(module.network)
        or _of_callbacks(trainer)
    )


def bits_of(trainer: pl.Trainer) -> Masks:
    """Return the masks of the parameters that have pruned weights, as bits."""
    found: Masks = {}
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, HoldingCallback):
            found |= callback.held_bits
    return found


def _of_trainer(trainer: Any) -> str:
    checks = {
        f"trainer.precision is {trainer.precision}": trainer.precision != "32-true",
        "trainer.compile is true": getattr(trainer.lightning_module, "compiles", False),
        "images are read from their files while training": not _in_memory(trainer),
    }
    return next((why for why, holds in checks.items() if holds), "")


def _in_memory(trainer: Any) -> bool:
    loaders = trainer.fit_loop._combined_loader.flattened
    return len(loaders) == 1 and isinstance(loaders[0], InMemoryLoader)


def _of_network(network: nn.Module) -> str:
    for name, part in network.named_modules():
        if not type(part).__module__.startswith(STATELESS):
            return (
                f"{name or 'the network'} is of the class {type(part).__qualname__}, which may keep a state"
            )
        if isinstance(part, _DropoutNd) and part.p and part.training:
            return f"layer {name} draws random numbers"
        if part._backward_hooks or part._forward_hooks:
            return f"layer {name} has hooks"
    if len({id(p) for p in network.parameters()}) != len(
        list(network.named_parameters(remove_duplicate=False))
    ):
        return "layers share parameters"
    return ""


def _of_callbacks(trainer: Any) -> str:
    for callback in trainer.callbacks:
        if not type(callback).__module__.startswith(OWN):
            return f"there is a callback of the class {type(callback).__qualname__}"
        if isinstance(callback, Pruning) and not callback.done and callback.retraining.slimming:
            return "slimming adds to the gradients"
    return ""
