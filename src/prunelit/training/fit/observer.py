"""Let a criterion observe the training before it scores."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from prunelit.pruning.criteria import Criterion
from prunelit.pruning.parameters import Parameters


class Observer:
    """Calls ``criterion.observe`` after each optimizer step or epoch, according to ``criterion.observes``.

    The criterion starts with the present weights or, with ``goes_on``, continues its observation. The
    learning rates of an epoch are the rates of its last step.
    """

    def __init__(
        self, criterion: Criterion, parameters: Parameters, optimizers: list[Optimizer], goes_on: bool
    ) -> None:
        self.criterion, self.parameters, self.optimizers = criterion, parameters, optimizers
        self._hooks: list[RemovableHandle] = []
        self._rates: dict[str, float] = {}
        if criterion.observes == "never":
            return
        if not goes_on or not criterion.state_dict():
            criterion.begin(parameters)
        self._hooks = [optimizer.register_step_post_hook(self._step_ended) for optimizer in optimizers]

    def epoch_ended(self) -> None:
        """Pass the weights at the end of an epoch to the criterion."""
        if self.criterion.observes == "epoch":
            # No step was observed if an optimizer changes weights outside of its ``step``.
            rates = self._rates or learning_rates(self.parameters, self.optimizers)
            self.criterion.observe(self.parameters, rates)

    def begin_again(self) -> None:
        """Start with the present weights."""
        if self.criterion.observes != "never":
            self.criterion.begin(self.parameters)

    def close(self) -> None:
        """Release the optimizers."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def _step_ended(self, *_: Any) -> None:
        # Recorded here, because at the end of an epoch the schedules are one step further.
        self._rates = learning_rates(self.parameters, self.optimizers)
        if self.criterion.observes == "step":
            self.criterion.observe(self.parameters, self._rates)


def learning_rates(parameters: Parameters, optimizers: Iterable[Optimizer]) -> dict[str, float]:
    """Return the learning rate of each parameter by name, 0 for a parameter without an optimizer."""
    rates = {
        id(parameter): float(group["lr"])
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    return {name: rates.get(id(parameter), 0.0) for name, parameter in parameters.items()}
