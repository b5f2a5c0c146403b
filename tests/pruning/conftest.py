"""Small networks and batches on which scores can be checked number by number."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.objective import Objective

Batches = list[tuple[Tensor, Tensor]]


class Residual(nn.Module):
    """Convolutions, BatchNorm with statistics of its own, a residual sum, pooling, a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 3, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(3)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 3)
        for bn in (self.bn1, self.bn2):
            bn.weight.data.uniform_(0.5, 1.5)
            bn.bias.data.normal_(0, 0.3)
            bn.running_mean.normal_(0, 0.3)
            bn.running_var.uniform_(0.5, 2.0)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(x + self.bn2(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


@pytest.fixture
def residual() -> Residual:
    """A float64 network of 144 prunable weights."""
    torch.manual_seed(3)
    return Residual().double()


@pytest.fixture
def images() -> Batches:
    """Two float64 batches of unequal size for ``residual``."""
    generator = torch.Generator().manual_seed(4)
    return [
        (
            torch.randn(n, 2, 5, 5, generator=generator, dtype=torch.float64),
            torch.randint(3, (n,), generator=generator),
        )
        for n in (6, 3)
    ]


@pytest.fixture
def example() -> Callable[..., Objective]:
    """Build the objective of a criterion that needs only the shape of an input."""

    def build(*shape: int) -> Objective:
        return Objective(lambda batch: torch.zeros(()), [], (torch.zeros(shape),))

    return build


@pytest.fixture
def linear() -> Callable[..., nn.Linear]:
    """Build a float64 linear layer from its weights and biases."""

    def build(weight: Sequence[Sequence[float]], bias: Sequence[float] | None = None) -> nn.Linear:
        layer = nn.Linear(len(weight[0]), len(weight), bias=bias is not None, dtype=torch.float64)
        layer.weight.data = torch.tensor(weight, dtype=torch.float64)
        if bias is not None:
            layer.bias.data = torch.tensor(bias, dtype=torch.float64)
        return layer

    return build
