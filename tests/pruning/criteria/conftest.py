"""Networks that the contract of all criteria is tested on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.objective import Objective


class Images(nn.Module):
    """Convolutions, BatchNorm, a residual sum, dropout and, for a width of 62, 33,012 prunable weights."""

    def __init__(self, width: int = 62, pool: int = 8) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8))
        self.head = nn.Sequential(
            *(nn.AdaptiveAvgPool2d(pool), nn.Flatten(), nn.Linear(8 * pool**2, width)),
            *(nn.Dropout(), nn.ReLU(), nn.Linear(width, 10)),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(F.relu(x + self.block(x)))


class Tied(nn.Module):
    """One layer used twice, two layers with one weight, and a classifier that shares an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 6)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 6)
        self.second.weight = self.first.weight
        self.twice = nn.Linear(6, 6)
        self.classifier = nn.Linear(6, 10)
        self.classifier.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        x = F.relu(self.second(F.relu(self.first(self.words(ids).mean(1)))))
        return self.classifier(F.relu(self.twice(F.relu(self.twice(x)))))


class Unused(nn.Module):
    """A layer that no forward pass runs, one that only training runs, and one that is frozen."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.spare, self.side = nn.Linear(64, 8), nn.Linear(9, 9), nn.Linear(8, 10)
        self.out = nn.Linear(8, 10).requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.used(x.flatten(1)))
        return self.out(x) + (self.side(x) if self.training else 0)


def sparse() -> nn.Module:
    """A network that has zero weights already, of unknown origin."""
    network = Images(12, pool=1)
    for parameter in network.parameters():
        parameter.data[torch.rand(parameter.shape) < 0.7] = 0
    return network


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "large": Images,
    "images": lambda: Images(12, pool=1),
    "tied": Tied,
    "unused": Unused,
    "sparse": sparse,
}


def make_case(kind: str, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Objective]:
    torch.manual_seed(0)
    network = NETWORKS[kind]().to(dtype)
    inputs = torch.randint(10, (12, 4)) if kind == "tied" else torch.rand(12, 1, 8, 8, dtype=dtype)
    return network, objective_of(network, inputs)


def objective_of(network: nn.Module, inputs: Tensor) -> Objective:
    labels = torch.arange(12) % 10
    return Objective.of_classifier(network, [(inputs[:8], labels[:8]), (inputs[8:], labels[8:])])


@pytest.fixture
def make() -> Callable[..., tuple[nn.Module, Objective]]:
    """Build one of the networks and an objective of two batches for it."""
    return make_case
