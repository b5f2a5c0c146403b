"""The one interface of all criteria."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from torch import nn

from prunelit.pruning.masks import Masks, Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.units import Groups


class Criterion(ABC):
    """Turns a network, and for some criteria batches, into scores: one number per parameter; higher scores
    are kept.

    A criterion knows nothing of schedules, masks or training. It may change the network's modes
    and, through a training-mode forward pass, buffers: the loop in ``rounds.py`` restores all.

    Attributes:
        needs: ``nothing``; ``example``, the shape of an input; or ``batches``, data and a loss.
        unit: what is kept or removed: each ``weight`` by itself, or a ``filter`` with all its parts, a
            share of each layer's; biases and normalisation are prunable then.
        across_layers: whether such units may compete with those of other layers where whole units of the
            network are removed (granularity ``unit``): then ``scope`` decides.
        observes: when it looks at the training that comes before its scores: ``never``, after each
            optimizer ``step``, or at the end of each ``epoch``.
        reads_only: whether its scores write to no weight and run no module, so that no copy of the weights
            must be kept. It counts in the class that declares it and not in those derived from it.
    """

    needs: ClassVar[Literal["nothing", "example", "batches"]] = "nothing"
    unit: ClassVar[Literal["weight", "filter"]] = "weight"
    across_layers: ClassVar[bool] = False
    observes: Literal["never", "step", "epoch"] = "never"
    reads_only: ClassVar[bool] = False

    @abstractmethod
    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return one finite score tensor per parameter, with its shape and on its device, by name.

        Args:
            network: the network, pruned so far: masked weights are 0.
            parameters: its prunable parameters by name; each requires a gradient.
            objective: what ``needs`` names; None if it needs nothing.
        """

    def scores_again(
        self, network: nn.Module, parameters: Parameters, objective: Objective | None, previous: Scores
    ) -> Scores:
        """Return the scores of a later round, for which the memory of ``previous`` may be used again.

        ``previous`` contains the scores of the previous round, whose memory may be reused.
        """
        previous.clear()
        return self.scores(network, parameters, objective)

    def keep_highest(
        self,
        network: nn.Module,
        parameters: Parameters,
        objective: Objective | None,
        numbers: Sequence[int],
        alive: Masks,
    ) -> tuple[Masks, int]:
        """Do rounds that keep the highest scores, without giving the scores; none of them by default.

        A criterion that is faster in this way does as many rounds as certainly give the same masks.
        ``numbers`` says how many weights each round keeps, at least 1, and ``alive`` what is kept before.
        The network does not change. Returns the masks after these rounds, and how many rounds they are.
        """
        return alive, 0

    def only_reads_weights(self) -> bool:
        """Return ``reads_only`` as this very class declares it."""
        return bool(vars(type(self)).get("reads_only", False))

    def check(self, objective: Objective | None) -> None:
        """Raise ValueError if what the criterion needs is missing."""
        name = type(self).__name__
        if self.needs == "example" and (objective is None or not objective.has_example):
            raise ValueError(
                f"{name} needs inputs of the network: pass objective=Objective(inputs=(images,))"
            )
        if self.needs == "batches" and objective is None:
            batches = "Objective.of_classifier(network, [(images, labels)])"
            raise ValueError(
                f"{name} needs batches and a loss: pass objective={batches}, or another Objective"
            )

    def groups(
        self, network: nn.Module, parameters: Parameters, objective: Objective | None
    ) -> Groups | None:
        """Return the weights that are kept or removed together; None: every weight by itself."""
        return None

    def adjust(self, network: nn.Module, masks: Masks) -> None:  # noqa: B027 - most have nothing to do
        """Change kept weights once the final masks are applied."""

    def begin(self, parameters: Parameters) -> None:
        """Note the weights that training starts from."""
        raise NotImplementedError(f"{type(self).__name__} does not observe training")

    def observe(self, parameters: Parameters, learning_rates: Mapping[str, float]) -> None:
        """Look at the weights after a step or an epoch, and at the learning rate of each, by name."""
        raise NotImplementedError(f"{type(self).__name__} does not observe training")

    def state_dict(self) -> dict[str, Any]:
        """Return what was observed since :meth:`begin`, empty before it. It is saved in checkpoints."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what was observed."""
        assert not state_dict, f"{type(self).__name__} does not observe training"
