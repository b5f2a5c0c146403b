"""Scores written by matrix products are those that autograd gives, whatever the network is made of."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import flow_scores as module
from prunelit.pruning import scored_layers
from prunelit.pruning.call import Call
from prunelit.pruning.flow_scores import flow_scores
from prunelit.pruning.masks import Scores
from prunelit.pruning.parameters import Selection
from prunelit.pruning.scored_layers import OutOfSight, ScoredLayers

EVERYTHING = Selection(bias=True, norm=True)


def both_ways(
    network: nn.Module, example: Tensor, selection: Selection = EVERYTHING
) -> tuple[Scores, Scores]:
    """Return the scores by products, which must not be left to autograd, and those by autograd."""
    network.eval()
    parameters = selection.of(network)
    found = []
    for stand_in in (True, False):
        scores = module.absolute_values(parameters, {})
        layers = ScoredLayers(scores, stand_in=stand_in)
        module._write(layers, network, parameters, Call.of(example), biases=False)
        found.append(scores)
    return found[0], found[1]


def assert_equal(found: Scores, expected: Scores) -> None:
    assert found.keys() == expected.keys()
    for name in found:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-9, atol=0)


class Block(nn.Module):
    """A convolution of random shape, BatchNorm, an activation, and sometimes a residual sum around them."""

    def __init__(self, channels: int, draw: random.Random) -> None:
        super().__init__()
        groups = draw.choice([1, 1, 2, channels])
        self.residual = draw.random() < 0.5
        stride = 1 if self.residual else draw.choice([1, 2])
        kernel = draw.choice([1, 3, (3, 1)] if self.residual else [1, 3, (3, 1), 2])
        padding = "same" if self.residual else draw.choice([0, 1, 2])
        dilation = draw.choice([1, 2])
        self.conv = nn.Conv2d(
            channels, channels, kernel, stride, padding, dilation, groups, bias=draw.random() < 0.5
        )
        self.bn = nn.BatchNorm2d(channels)
        self.bn.running_mean.normal_()
        self.bn.running_var.uniform_(0.5, 2)
        self.activation = draw.choice([F.relu, F.gelu, F.leaky_relu, lambda x: F.relu(x, inplace=True)])

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.bn(self.conv(x)))
        return x + y if self.residual else y


class Drawn(nn.Module):
    def __init__(self, seed: int) -> None:
        super().__init__()
        draw = random.Random(seed)
        torch.manual_seed(seed)
        channels = draw.choice([4, 6])
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks = nn.Sequential(*(Block(channels, draw) for _ in range(draw.randint(1, 4))))
        self.pool: nn.Module = draw.choice([nn.AdaptiveAvgPool2d(2), nn.AdaptiveMaxPool2d(2)])
        self.fc = nn.Linear(4 * channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.fc(self.pool(self.blocks(self.stem(x))).flatten(1)), 1)


@pytest.mark.parametrize("part", [2**17, 20])
@pytest.mark.parametrize("seed", range(12))
def test_random_networks(seed: int, part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored_layers, "PART", part)
    assert_equal(*both_ways(Drawn(seed), torch.ones(1, 3, 16, 15)))


class Tied(nn.Module):
    """One weight in a linear layer, in another one turned round, and in a product outside of any layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.last(F.relu(self.first(x))), self.first.weight.t()) + x @ self.first.weight


class Unbatched(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([self.conv(image) for image in x])


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.relu(self.conv(x)))


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "tied": (Tied, (2, 4)),
    "without an axis of samples": (Unbatched, (1, 3, 8, 8)),
    "twice": (Twice, (1, 4, 6, 6)),
    "unused": (Unused, (1, 4)),
    "sequences": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 2, bias=False)), (3, 7, 5)),
    "one axis": (lambda: nn.Conv1d(4, 6, 3, 2, 1, groups=2), (1, 4, 11)),
    "three axes": (lambda: nn.Conv3d(2, 3, (1, 2, 3), (1, 2, 1), (0, 1, 1)), (1, 2, 4, 5, 6)),
    "circular": (lambda: nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), (1, 2, 5, 5)),
    "transposed": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.ConvTranspose2d(3, 2, 2, 2)), (1, 2, 6, 6)),
    "attention": (lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), (1, 5, 8)),
    "channels last": (
        lambda: nn.Conv2d(4, 6, 3, padding=1).to(memory_format=torch.channels_last),
        (1, 4, 6, 6),
    ),
    "half precision": (lambda: nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).bfloat16(), (1, 6)),
    "weight normalised": (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)), (1, 4)),
}


@pytest.mark.parametrize("case", CASES)
def test_networks_of_other_kinds(case: str) -> None:
    build, shape = CASES[case]
    torch.manual_seed(0)
    assert_equal(*both_ways(build(), torch.ones(shape), Selection(bias=True)))


def test_later_rounds_write_into_the_same_memory() -> None:
    network = Drawn(1).eval()
    parameters, call = Selection().of(network), Call.of(torch.ones(1, 3, 16, 15))
    first = flow_scores(network, parameters, call, False, {})
    expected = {name: score.clone() for name, score in first.items()}
    again = flow_scores(network, parameters, call, False, first)
    for name, score in again.items():
        assert score.data_ptr() == first[name].data_ptr()
        assert torch.equal(score, expected[name])


class Rewritten(torch.autograd.Function):
    """A matrix product with a backward pass of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x @ weight.T

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        return gradient @ weight, gradient.T @ x


class Own(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return Rewritten.apply(x, self.weight)


def test_weights_used_out_of_sight_are_left_to_autograd() -> None:
    torch.manual_seed(0)
    own = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), Own(6, 3, bias=False))
    plain = nn.Sequential(own[0], nn.ReLU(), nn.Linear(6, 3, bias=False))
    plain[2].weight = own[2].weight
    with pytest.raises(OutOfSight):
        both_ways(own, torch.ones(1, 4))
    call = Call.of(torch.ones(1, 4))
    found = flow_scores(own, Selection().of(own), call, False, {})
    assert_equal(found, flow_scores(plain, Selection().of(plain), call, False, {}))
