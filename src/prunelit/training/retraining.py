"""What happens to kept weights, optimizer and learning rate when training goes on after a pruning.

Rewinding: Frankle, Dziugaite, Roy and Carbin, Linear mode connectivity and the lottery ticket
hypothesis, https://arxiv.org/abs/1912.05671; of the learning rate only: Renda, Frankle and Carbin,
Comparing rewinding and fine-tuning in neural network pruning, https://arxiv.org/abs/2003.02389
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import torch
from annotated_types import Ge
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Doc

from prunelit.declared import Says, check_fields


@dataclass(frozen=True)
class Retraining:
    """How training goes on after a pruning."""

    rewind: Annotated[
        Literal["none", "init"] | Annotated[int, Ge(0)],
        Says("none, init, or the number of an epoch"),
        Doc(
            "Where kept weights go back to: nowhere; where training began (`init`); or where they were at "
            "the start of an epoch, given its number. Biases, normalisation and buffers go along, and the "
            "optimizer forgets its state."
        ),
    ] = "none"
    restart_schedule: Annotated[
        bool, Doc("The learning rate goes back to its first value, and its schedule to its start.")
    ] = False
    masked_gradient: Annotated[
        bool, Doc("Pruned weights stay 0; false: they may grow back until the next pruning.")
    ] = True

    def __post_init__(self) -> None:
        check_fields(self)

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
