"""The one interface of all criteria."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

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
    """

    needs: ClassVar[Literal["nothing", "example", "batches"]] = "nothing"

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
