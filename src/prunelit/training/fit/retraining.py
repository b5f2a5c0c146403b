"""What happens to kept weights, optimizer and learning rate when training continues after a pruning.

Rewinding: Frankle, Dziugaite, Roy and Carbin, Linear mode connectivity and the lottery ticket
hypothesis, https://arxiv.org/abs/1912.05671; of the learning rate only: Renda, Frankle and Carbin,
Comparing rewinding and fine-tuning in neural network pruning, https://arxiv.org/abs/2003.02389
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import torch
from annotated_types import Ge, Gt
from torch import Tensor, nn
from torch.optim import Optimizer
from typing_extensions import Doc

from prunelit.declared import Says, check_fields
from prunelit.request import BadRequest

Rates = dict[str, list[Any]]
"""The options of all parameter groups (learning rate, momentum, ...) and the states of all schedules."""


@dataclass(frozen=True)
class Retraining:
    """How training leads up to a pruning and continues after it."""

    rewind: Annotated[
        Literal["none", "init"] | Annotated[int, Ge(0)],
        Says("none, init, or the number of an epoch"),
        Doc(
            "The state to which kept weights return after a pruning: none, the initial state "
            "(`init`), or the state at the start of an epoch, given by its number. Biases, "
            "normalization and buffers return to it too, and the state of the optimizer is reset."
        ),
    ] = "none"
    restart_schedule: Annotated[
        bool | Literal["init"] | None,
        Doc(
            "Whether learning rate, momentum and schedule are reset after a pruning. true: to the "
            "epoch given by `rewind`, or to their beginning without rewinding. init: to their "
            "beginning. false: they continue. null: true with rewinding, false without."
        ),
    ] = None
    masked_gradient: Annotated[
        bool, Doc("Keep pruned weights at 0. false: they may become nonzero again until the next pruning.")
    ] = True
    cut: Annotated[
        bool,
        Doc(
            "Cut the units that a pruning removes out of the network, instead of keeping them at 0: "
            "parameters, BatchNorm statistics and the state of the optimizer become smaller, and so do "
            "checkpoints. It needs `granularity` unit."
        ),
    ] = False
    slimming: Annotated[
        float,
        Ge(0),
        Doc(
            "The strength of an L1 penalty on the scales of BatchNorm: `slimming * sign(scale)` is added to "
            "their gradients at every optimizer step until the last pruning, as in network slimming. 0: none."
        ),
    ] = 0.0
    repair: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "The number of training batches, drawn by seed, on which the layers behind removed units are "
            "fitted to their former outputs by least squares, straight after each pruning. It needs "
            "`granularity` unit. null: they stay."
        ),
    ] = None
    ridge: Annotated[
        float,
        Gt(0),
        Doc(
            "With `repair`, the strength of the penalty on changes of weights, as a share of the mean square "
            "of a layer's inputs."
        ),
    ] = 0.01
    recalibrate: Annotated[
        Annotated[int, Ge(1)] | None,
        Doc(
            "The number of training batches, drawn by seed, on which the running statistics of BatchNorm are "
            "estimated again straight after each pruning. null: they stay."
        ),
    ] = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.cut and not self.masked_gradient:
            why = "cut is true, and weights that were cut out cannot grow back"
            raise BadRequest("masked_gradient", False, "true", why)
        if self.repair and self.rewind != "none":
            why = f"weights are rewound after each pruning (rewind is {self.rewind})"
            raise BadRequest("repair", self.repair, "null", why)

    @property
    def epoch(self) -> int | None:
        """The epoch at whose start the training is recorded for rewinding; None without rewinding."""
        if self.rewind == "none":
            return None
        return 0 if self.rewind == "init" else int(self.rewind)

    @property
    def restarts(self) -> bool:
        """Whether learning rate and schedule are reset at a pruning."""
        return self.epoch is not None if self.restart_schedule is None else bool(self.restart_schedule)

    def check(self, begin: int, end: int) -> None:
        """Raise BadRequest unless a training from epoch ``begin`` on includes the epoch to which it rewinds.

        ``end`` is the epoch of the first pruning, or after training the number of epochs; -1: no limit.
        """
        if self.epoch is None or (begin <= self.epoch and (self.epoch <= end or end < 0)):
            return
        if self.epoch < begin:
            why = f"training resumes at epoch {begin}, and the weights of the given epoch are unknown"
            raise BadRequest("rewind", self.rewind, f"none, or {begin} or more", why)
        why = f"the first pruning is at epoch {end}"
        raise BadRequest("rewind", self.rewind, f"an epoch of at most {end}", why)

    def rates(self, beginning: Rates, noted: Rates | None) -> Rates | None:
        """Return the state to which learning rates and schedules are reset at a pruning; None: they continue.

        Args:
            beginning: the rates at the beginning of the training.
            noted: the rates of the epoch to which weights are rewound; None without rewinding.
        """
        if not self.restarts:
            return None
        return beginning if self.restart_schedule == "init" or noted is None else noted


@dataclass
class Snapshot:
    """A training at the start of an epoch: the network's weights, and learning rates with their schedules."""

    weights: dict[str, Tensor] = field(default_factory=dict)
    rates: Rates | None = None

    def record(self, network: nn.Module, trainer: pl.Trainer) -> None:
        """Copy all parameters and buffers, and the rates."""
        self.weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        self.rates = current_rates(trainer)

    @torch.no_grad()
    def give_weights(self, network: nn.Module, optimizers: list[Optimizer]) -> None:
        """Restore the recorded weights of ``network`` and reset the states of the optimizers."""
        network.load_state_dict(self.weights, strict=True)
        for optimizer in optimizers:
            optimizer.state.clear()


@torch.no_grad()
def forget_moments(optimizers: list[Optimizer], places: Mapping[nn.Parameter, Tensor]) -> None:
    """Set the optimizer states of some weights, such as their momentum, to 0.

    ``places`` marks these weights in each parameter.
    """
    for optimizer in optimizers:
        for parameter, marked in places.items():
            for value in optimizer.state.get(parameter, {}).values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    value.masked_fill_(marked, 0)


def current_rates(trainer: pl.Trainer) -> Rates:
    """Return a copy of the options of all parameter groups and of the states of all schedules."""
    groups = [
        [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        for optimizer in trainer.optimizers
    ]
    schedules = [config.scheduler.state_dict() for config in trainer.lr_scheduler_configs]
    return copy.deepcopy({"groups": groups, "schedules": schedules})


@torch.no_grad()
def set_rates(trainer: pl.Trainer, rates: Rates) -> None:
    """Reset all parameter groups and schedules to ``rates``.

    Momentum is reset too, because schedules such as ``OneCycleLR`` change it together with the learning rate.

    Raises:
        ValueError: the trainer has other optimizers or schedules.
    """
    rates = copy.deepcopy(rates)
    for optimizer, groups in zip(trainer.optimizers, rates["groups"], strict=True):
        for group, noted in zip(optimizer.param_groups, groups, strict=True):
            for key, value in noted.items():
                if isinstance(group.get(key), Tensor):
                    group[key].copy_(torch.as_tensor(value))
                else:
                    group[key] = value
    for config, state in zip(trainer.lr_scheduler_configs, rates["schedules"], strict=True):
        config.scheduler.load_state_dict(state)
