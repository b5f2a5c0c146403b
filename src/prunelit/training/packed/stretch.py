"""The training batches that a run asks its group to train on: from the present one to the end of an epoch."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from prunelit.pruning.masks import Masks
from prunelit.training.module import Classifier

Images = tuple[Tensor, Tensor]


@dataclass(eq=False)
class Stretch:
    """A run's request to be trained on ``sizes`` batches, and how far the group came.

    Attributes:
        module: of the run.
        optimizer: of the run, which updates all parameters of the network.
        masks: as bits, of the parameters that have pruned weights.
        batch: the first batch, then the one that is trained on.
        first: the number of the first batch in the epoch.
        sizes: the images of each batch.
        following: returns the next batch.
        done: the number of batches that were trained on.
        seconds: the run's share of the time.
        alone: why the run trains on ``batch`` and the following ones by itself; empty if it does not.
    """

    module: Classifier
    optimizer: torch.optim.Optimizer
    masks: Masks
    batch: Images
    first: int
    sizes: list[int]
    following: Callable[[], Images]
    done: int = 0
    seconds: float = 0.0
    alone: str = ""
    parameters: dict[str, nn.Parameter] = field(init=False)
    buffers: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.parameters = dict(self.module.network.named_parameters())
        self.buffers = dict(self.module.network.named_buffers())

    @cached_property
    def kind(self) -> Hashable:
        """Equal for runs that can be stacked: their networks, batches and losses have the same form."""
        network = self.module.network
        tensors = [*self.parameters.items(), *self.buffers.items()]
        return (
            repr(network),
            tuple((name, t.shape, t.dtype, t.device, t.requires_grad) for name, t in tensors),
            tuple(part.training for part in network.modules()),
            self.batch[0].shape[1:],
            tuple(self.sizes),
            self.module.label_smoothing,
            type(self.optimizer),
        )

    @cached_property
    def update(self) -> Hashable:
        """Equal for runs whose optimizers compute the same function of weights, gradients and states."""
        group = {name: _plain(value) for name, value in self.optimizer.param_groups[0].items()}
        del group["params"]
        states = [self.optimizer.state.get(p, {}) for p in self.parameters.values()]
        return tuple(sorted(group.items())), tuple(_scalars(state) for state in states)

    def fetch(self) -> None:
        """Fetch the next batch; a batch that is fetched must be trained on, because the loader counts it."""
        self.batch = self.following()


def _scalars(state: dict[str, Any]) -> Hashable:
    """Return the numbers in the state of one parameter, such as the number of steps, and the other keys."""
    return tuple(
        (name, float(value) if not isinstance(value, Tensor) or value.ndim == 0 else None)
        for name, value in sorted(state.items())
        if value is not None
    )


def _plain(value: Any) -> Hashable:
    return tuple(value) if isinstance(value, (list, tuple)) else value
