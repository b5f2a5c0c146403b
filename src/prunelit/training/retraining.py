"""What happens to kept weights, optimizer and learning rate when training goes on after a pruning.

Rewinding: Frankle, Dziugaite, Roy and Carbin, Linear mode connectivity and the lottery ticket
hypothesis, https://arxiv.org/abs/1912.05671; of the learning rate only: Renda, Frankle and Carbin,
Comparing rewinding and fine-tuning in neural network pruning, https://arxiv.org/abs/2003.02389
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prunelit.request import BadRequest


@dataclass(frozen=True)
class Retraining:
    """How training goes on after a pruning.

    Attributes:
        rewind: ``none``; ``init``, kept weights go back to where training began; or a number k, to
            where they were at the start of epoch k. Biases, normalisation and buffers go along, and
            the optimizer forgets its state.
        restart_schedule: the learning rate goes back to its first value, and its schedule to its start.
        masked_gradient: pruned weights stay 0; false: they may grow back until the next pruning.
    """

    rewind: str | int = "none"
    restart_schedule: bool = False
    masked_gradient: bool = True

    def __post_init__(self) -> None:
        whole = isinstance(self.rewind, int) and not isinstance(self.rewind, bool) and self.rewind >= 0
        if self.rewind not in ("none", "init") and not whole:
            raise BadRequest("pruner.rewind", self.rewind, "none, init, or the number of an epoch")

    @property
    def epoch(self) -> int | None:
        """The epoch at whose start the weights to go back to are noted; None without rewinding."""
        return None if self.rewind == "none" else 0 if self.rewind == "init" else int(self.rewind)


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all parameters and buffers."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


@torch.no_grad()
def rewind(network: nn.Module, weights: dict[str, Tensor], trainer: pl.Trainer) -> None:
    """Give ``network`` the noted weights back; the optimizers forget."""
    network.load_state_dict(weights, strict=True)
    for optimizer in trainer.optimizers:
        optimizer.state.clear()


@torch.no_grad()
def forget_moments(optimizers: list[Optimizer], places: Mapping[nn.Parameter, Tensor]) -> None:
    """Let the optimizers begin anew with weights: what they hold of each, as momentum, becomes 0.

    ``places`` marks them in each parameter.
    """
    for optimizer in optimizers:
        for parameter, marked in places.items():
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(marked, 0)


def schedule_states(trainer: pl.Trainer) -> list[dict[str, Any]]:
    """Return the states of all learning-rate schedules."""
    return [copy.deepcopy(config.scheduler.state_dict()) for config in trainer.lr_scheduler_configs]


def restart_schedules(trainer: pl.Trainer, states: list[dict[str, Any]]) -> None:
    """Take all learning rates and schedules back to where they began."""
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])
    for config, state in zip(trainer.lr_scheduler_configs, states, strict=True):
        config.scheduler.load_state_dict(copy.deepcopy(state))
