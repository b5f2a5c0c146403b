"""What each initialisation scheme draws: the statistics the papers give."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from prunelit.training.models import FC, VGG, CifarResNet, ConvNet, LeNet5, ResNet18
from prunelit.training.models.init import initialize

CIFAR = (3, 32, 32)


def large_weights(network: nn.Module) -> list[tuple[str, torch.Tensor]]:
    """Weights of convolutions and linear layers that are enough for a standard deviation within 5 %."""
    return [
        (name, layer.weight.detach())
        for name, layer in network.named_modules()
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.weight.numel() >= 2400
    ]


def fans(weight: torch.Tensor) -> tuple[int, int]:
    """Inputs to one output, and outputs of one input."""
    return weight[0].numel(), weight[:, 0].numel()


@pytest.mark.parametrize(
    "network",
    [VGG, ResNet18, CifarResNet, partial(FC, init="kaiming_normal")],
    ids=["VGG", "ResNet18", "CifarResNet", "FC"],
)
def test_kaiming_normal(network: Callable[..., nn.Module]) -> None:
    torch.manual_seed(0)
    built = network(10, CIFAR)
    for name, weight in large_weights(built):
        std = math.sqrt(2 / fans(weight)[0])
        assert float(weight.std()) == pytest.approx(std, rel=0.05), name
        assert abs(float(weight.mean())) < 5 * std / weight.numel() ** 0.5, name
    for layer in built.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            assert (layer.bias == 0).all()
        if isinstance(layer, nn.BatchNorm2d):
            assert (layer.weight == 1).all()
            assert (layer.bias == 0).all()


def test_kaiming_normal_is_normal_and_not_uniform() -> None:
    torch.manual_seed(0)
    weight = VGG(10, CIFAR, depth=11).get_parameter("conv5_2.weight").detach()
    beyond_two = float((weight.abs() > 2 * weight.std()).float().mean())
    assert beyond_two == pytest.approx(0.0455, abs=0.003)


@pytest.mark.parametrize("init", ["xavier_uniform", "xavier_normal"])
def test_xavier(init: str) -> None:
    torch.manual_seed(0)
    network = LeNet5(10, (1, 28, 28), init=init)
    for name, weight in large_weights(network):
        std = math.sqrt(2 / sum(fans(weight)))
        assert float(weight.std()) == pytest.approx(std, rel=0.05), name
        largest = float(weight.abs().max())
        assert (largest <= math.sqrt(3) * std) == (init == "xavier_uniform"), name
    assert all((value == 0).all() for name, value in network.named_parameters() if name.endswith("bias"))


@pytest.mark.parametrize("network", [FC, ConvNet])
def test_the_others_have_the_scheme_of_pytorch(network: Callable[..., nn.Module]) -> None:
    """Uniform within ``1 / sqrt(fan_in)``, biases too."""
    torch.manual_seed(0)
    built = network(10, CIFAR)
    for name, weight in large_weights(built):
        bound = 1 / math.sqrt(fans(weight)[0])
        assert float(weight.abs().max()) == pytest.approx(bound, rel=0.01), name
        assert 0 < float(built.get_parameter(f"{name}.bias").detach().abs().max()) <= bound, name


def test_initialize_leaves_the_root_to_its_caller_and_reaches_nested_layers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Sequential(nn.Linear(50, 60), nn.LayerNorm(60)), nn.Conv1d(3, 5, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(7)
    initialize(network, "default")
    assert not any((parameter == 7).any() for parameter in network.parameters())
    initialize(network, "xavier_uniform")
    assert float(network.get_parameter("0.0.weight").detach().abs().max()) <= math.sqrt(6 / 110)
    assert (network.get_parameter("1.bias") == 0).all()
