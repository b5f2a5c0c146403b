"""The one interface of all criteria."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from torch import nn

from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class Criterion(ABC):
    """Turns a network, and for some criteria batches, into scores: one number a parameter, higher is kept.

    A criterion knows nothing of schedules, masks or training. It may change the network's modes
    and, through a training-mode forward pass, buffers: the loop in ``rounds.py`` restores all.

    Attributes:
        needs: ``nothing``; ``example``, the shape of an input; or ``batches``, data and a loss.
        observes: when it looks at the training that comes before its scores: ``never``, after each
            optimizer ``step``, or at the end of each ``epoch``.
    """

    needs: ClassVar[Literal["nothing", "example", "batches"]] = "nothing"
    observes: Literal["never", "step", "epoch"] = "never"

    @abstractmethod
    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return one finite score tensor of each parameter's shape and device, by name.

        Args:
            network: the network, pruned so far: weights that are masked are 0.
            parameters: its prunable parameters by name; each requires a gradient.
            objective: what ``needs`` names; None if it needs nothing.
        """

    def check(self, objective: Objective | None) -> None:
        """Raise ValueError if what the criterion needs is missing."""
        if self.needs != "nothing" and objective is None:
            raise ValueError(f"{type(self).__name__} needs {self.needs}: pass an objective")

    def begin(self, parameters: Parameters) -> None:
        """Note the weights that training starts from."""
        raise NotImplementedError(f"{type(self).__name__} observes nothing")

    def observe(self, parameters: Parameters, learning_rates: Mapping[str, float]) -> None:
        """Look at the weights after a step or an epoch, and at the learning rate of each, by name."""
        raise NotImplementedError(f"{type(self).__name__} observes nothing")

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed since :meth:`begin`, empty before it. It rides along in checkpoints."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what was observed."""
        assert not state_dict, f"{type(self).__name__} observes nothing"
