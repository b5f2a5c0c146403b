"""Make a network smaller between two steps of its training, and whole again for the next pruning.

Scores, masks and densities belong to the whole network. So each pruning starts with the whole network, which
has 0 where units were cut out, and ends with a smaller one. Training and checkpoints see the smaller one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.narrowing import Narrowing
from prunelit.pruning.criteria import Criterion
from prunelit.pruning.masks import Masks
from prunelit.request import BadRequest
from prunelit.training.cutting.optimizer_states import change_states, check_states
from prunelit.training.holding.averages import averages_of
from prunelit.training.lightning_classes import is_lightning


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

    def cut(
        self, network: nn.Module, narrowing: Narrowing | None, optimizers: Iterable[Optimizer] = ()
    ) -> None:
        """Cut a whole network, and the states of ``optimizers``."""
        assert self.narrowing is None
        if narrowing is not None:
            _change(network, narrowing, optimizers, to_whole=False)
        self.narrowing = narrowing

    def restore(self, network: nn.Module, optimizers: Iterable[Optimizer] = ()) -> None:
        """Make the network and the states of ``optimizers`` whole; what was cut out is 0."""
        narrowing, self.narrowing = self.narrowing, None
        if narrowing is not None:
            _change(network, narrowing, optimizers, to_whole=True)

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
    def possible(network: nn.Module, masks: Masks, example: Call) -> Narrowing | None:
        """Return what could be cut out of a whole, masked network; None if nothing can.

        Raises:
            BadRequest: the network cannot be copied or followed.
        """
        try:
            return Narrowing.by_masks(network, masks, example)
        except BadRequest:
            raise
        except ValueError as error:
            raise BadRequest("cut", True, "false", " ".join(str(error).split())[:200]) from error

    @staticmethod
    def check_criterion(criterion: Criterion) -> None:
        """Raise BadRequest for a criterion that adds up what it observes of whole weights during training."""
        if criterion.observes != "never":
            why = f"{type(criterion).__name__} observes whole weights during training"
            raise BadRequest("cut", True, "false", why)

    @staticmethod
    def check_fit(trainer: pl.Trainer) -> None:
        """Raise BadRequest for a fit on several devices, before it starts."""
        if not is_lightning(trainer.strategy, "SingleDeviceStrategy"):
            why = f"{type(trainer.strategy).__name__} keeps buffers for the gradients of the whole network"
            raise BadRequest("cut", True, "false, or one device", why)

    @staticmethod
    def check_network(trainer: pl.Trainer, pl_module: pl.LightningModule, name: str) -> None:
        """Raise BadRequest for a network that others have copies or parts of."""
        if any(isinstance(p, DTensor) for p in pl_module.parameters()):
            raise BadRequest("cut", True, "false", "parameters are split over ranks")
        if averages_of(trainer, pl_module, name):
            raise BadRequest("cut", True, "false", "averages of the weights are kept, which would stay whole")


def _change(
    network: nn.Module, narrowing: Narrowing, optimizers: Iterable[Optimizer], *, to_whole: bool
) -> None:
    parameters = {n: p for n, p in network.named_parameters() if n in narrowing.positions}
    optimizers = list(optimizers)
    check_states(optimizers, parameters)
    shapes = {name: parameter.shape for name, parameter in parameters.items()}
    (narrowing.widen if to_whole else narrowing.narrow)(network)
    change = narrowing.widened if to_whole else narrowing.narrowed
    change_states(optimizers, parameters, shapes, change)
