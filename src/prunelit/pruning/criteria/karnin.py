"""Karnin: sensitivity gathered in training, score(w) = sum over n of [dw(n)]^2 * w_f / (eta * (w_f - w_i)).

Karnin, A simple procedure for pruning back-propagation trained neural networks, IEEE Transactions on
Neural Networks 1(2), 239-242, https://doi.org/10.1109/72.80236; repeated by Khanal, Examining the Effects
of Pruning on a Convolution Neural Network.

w_i is the weight at the start, w_f at the end, dw(n) its change in epoch (or optimizer step) n and eta the
learning rate. By plain gradient descent dw = -eta dL/dw: the sum of dw^2 / eta is how much this weight's
way from w_i to w_f lowered the loss L, and w_f / (w_f - w_i) stretches it to a way from 0 to w_f. Both
sources keep eta constant; here each term is divided by the rate of its own epoch or step. As in Khanal's
report, S is 0 where w_f = w_i, may be negative, and is scaled to the range from 0 to 1: by the least and
the greatest of the layer or of all layers. A few extreme weights, where w_f is almost w_i, can set that
range, and with it what a threshold removes.

Where all are equal, as without any training, nothing is known to be less sensitive, and all score 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import Doc

from prunelit.declared import checked
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class Karnin(Criterion):
    """Normalised sensitivity in float64; four numbers per weight are stored during training, no data is
    needed."""

    @checked
    def __init__(
        self,
        per: Annotated[
            Literal["epoch", "step"],
            Doc("Whether the changes of the weights are squared and summed per epoch or per step."),
        ] = "epoch",
        normalize: Annotated[
            Literal["layer", "global"],
            Doc("Whether the sensitivities are scaled to [0, 1] within each layer or over all layers."),
        ] = "layer",
    ) -> None:
        self.observes, self.normalize = per, normalize
        self.first: dict[str, Tensor] = {}
        self.last: dict[str, Tensor] = {}
        self.total: dict[str, Tensor] = {}

    def begin(self, parameters: Parameters) -> None:
        """Note w_i and start the sums at 0."""
        self.first = {name: p.detach().clone() for name, p in parameters.items()}
        self.last = {name: value.clone() for name, value in self.first.items()}
        self.total = {name: torch.zeros_like(v, dtype=torch.float64) for name, v in self.first.items()}

    @torch.no_grad()
    def observe(self, parameters: Parameters, learning_rates: Mapping[str, float]) -> None:
        """Add ``dw^2 / eta``; a rate of 0 moves no weight and adds nothing."""
        for name, parameter in parameters.items():
            last = self.last[name].to(parameter.device)
            self.total[name] = self.total[name].to(parameter.device)
            if rate := learning_rates[name]:
                self.total[name].add_((parameter - last).double().square_(), alpha=1 / rate)
            self.last[name] = last.copy_(parameter)

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        """Return the sensitivities between 0 and 1; all 1 before training."""
        found = {name: self._sensitivity(name, p.detach().double()) for name, p in parameters.items()}
        whole = torch.cat([value.flatten() for value in found.values()])
        by_layer = self.normalize == "layer"
        return {name: _scaled(value, value if by_layer else whole) for name, value in found.items()}

    def _sensitivity(self, name: str, final: Tensor) -> Tensor:
        if name not in self.first:
            return torch.zeros_like(final)
        moved = final - self.first[name].to(final)
        still = moved == 0
        return (self.total[name].to(final) * final / moved.masked_fill(still, 1)).masked_fill_(still, 0)

    def state_dict(self) -> dict[str, Any]:
        """Return w_i, the latest weights and the sums."""
        return {"first": self.first, "last": self.last, "total": self.total} if self.first else {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        for key, value in state_dict.items():
            setattr(self, key, dict(value))


def _scaled(sensitivity: Tensor, group: Tensor) -> Tensor:
    low, high = group.min(), group.max()
    return (sensitivity - low) / (high - low) if high > low else torch.ones_like(sensitivity)
