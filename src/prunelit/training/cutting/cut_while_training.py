"""Make a network smaller between two steps of its training, and whole again for the next pruning.

Scores, masks and densities belong to the whole network. So each pruning starts with the whole network, which
has 0 where units were cut out, and ends with a smaller one. Training and checkpoints see the smaller one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import lightning.pytorch as pl
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState
from torch.distributed.tensor import DTensor

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.narrowing import Narrowing
from prunelit.pruning.criteria import Criterion
from prunelit.pruning.masks import Masks
from prunelit.request import BadRequest
from prunelit.training.cutting.optimizer_states import change_states, check_states
from prunelit.training.holding.averages import averages_of
from prunelit.training.lightning_classes import is_lightning
from prunelit.training.parallel.agreement import decided_by_first_rank
from prunelit.training.parallel.rewrapped import rewrapped


class CutNetwork:
    """What is cut out of the network of a pruning at present.

    Attributes:
        narrowing: the cut; None: the network is whole.
    """

    def __init__(self) -> None:
        self.narrowing: Narrowing | None = None

    def state(self) -> dict[str, Any] | None:
        """Return the part of a checkpoint that says how the network was cut; None: it is whole."""
        return self.narrowing.state() if self.narrowing else None

    def of_whole(self, masks: Masks) -> Masks:
        """Return the masks of the present network, given those of the whole one."""
        if self.narrowing is None:
            return masks
        return {name: self.narrowing.narrowed(name, mask) for name, mask in masks.items()}

    def cut(self, network: nn.Module, narrowing: Narrowing | None, trainer: pl.Trainer | None = None) -> None:
        """Cut a whole network, and the states of the optimizers of ``trainer``, in whose fit it is."""
        assert self.narrowing is None
        if narrowing is not None:
            _change(network, narrowing, trainer, to_whole=False)
        self.narrowing = narrowing

    def restore(self, network: nn.Module, trainer: pl.Trainer | None = None) -> None:
        """Make the network and the states of the optimizers whole; what was cut out is 0."""
        narrowing, self.narrowing = self.narrowing, None
        if narrowing is not None:
            _change(network, narrowing, trainer, to_whole=True)

    def follow(self, network: nn.Module, state: Mapping[str, Any] | None) -> None:
        """Give the network the shapes that it had when a checkpoint with ``state`` was written."""
        self.restore(network)
        self.cut(network, Narrowing.from_state(state) if state else None)

    @contextmanager
    def whole(self, network: nn.Module) -> Iterator[None]:
        """Make the network whole inside the block."""
        narrowing = self.narrowing
        self.restore(network)
        try:
            yield
        finally:
            self.cut(network, narrowing)

    @staticmethod
    def possible(trainer: pl.Trainer, network: nn.Module, masks: Masks, example: Call) -> Narrowing | None:
        """Return what can be cut out of a whole, masked network, the same on every rank; None if nothing can.

        Raises:
            BadRequest: on every rank, if the network cannot be copied or followed.
        """
        found = decided_by_first_rank(trainer, partial(_possible, network, masks, example))
        return Narrowing.from_state(found) if found else None

    @staticmethod
    def check_criterion(criterion: Criterion) -> None:
        """Raise BadRequest for a criterion that adds up what it observes of whole weights during training."""
        if criterion.observes != "never":
            why = f"{type(criterion).__name__} observes whole weights during training"
            raise BadRequest("cut", True, "false", why)

    @staticmethod
    def check_fit(trainer: pl.Trainer) -> None:
        """Raise BadRequest for a strategy that keeps buffers for the whole network, before a fit starts."""
        strategy = trainer.strategy
        if not any(is_lightning(strategy, name) for name in ("SingleDeviceStrategy", "DDPStrategy")):
            why = f"{type(strategy).__name__} keeps parts or copies of the whole network"
            raise BadRequest("cut", True, "false, or trainer.strategy ddp or auto", why)
        if isinstance(getattr(strategy, "_ddp_comm_state", None), PowerSGDState):
            why = "PowerSGD keeps errors of the gradients of the whole network"
            raise BadRequest("cut", True, "false, or DDP without PowerSGD", why)

    @staticmethod
    def check_network(trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> None:
        """Raise BadRequest for a network that others have copies or parts of."""
        if any(isinstance(p, DTensor) for p in pl_module.parameters()):
            raise BadRequest("cut", True, "false", "parameters are split over ranks")
        if averages_of(trainer, pl_module, name):
            raise BadRequest("cut", True, "false", "averages of the weights are kept, which would stay whole")


def _possible(network: nn.Module, masks: Masks, example: Call) -> dict[str, Any] | None:
    try:
        narrowing = Narrowing.by_masks(network, masks, example)
    except BadRequest:
        raise
    except ValueError as error:
        raise BadRequest("cut", True, "false", " ".join(str(error).split())[:200]) from error
    return narrowing.state() if narrowing else None


def _change(network: nn.Module, narrowing: Narrowing, trainer: pl.Trainer | None, *, to_whole: bool) -> None:
    parameters = {n: p for n, p in network.named_parameters() if n in narrowing.positions}
    optimizers = trainer.optimizers if trainer else []
    check_states(optimizers, parameters)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    with rewrapped(trainer) if trainer else nullcontext():
        (narrowing.widen if to_whole else narrowing.narrow)(network)
    change = narrowing.widened if to_whole else narrowing.narrowed
    change_states(optimizers, parameters, shapes, change)
