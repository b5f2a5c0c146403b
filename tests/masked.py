"""Masks and networks for tests of paths."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

Masks = dict[str, Tensor]


def full(network: nn.Module, *extra: str) -> Masks:
    """All-True masks of the convolutions' and linear layers' weights, and of ``extra`` parameters."""
    weights = {
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)
    }
    named = network.named_parameters()
    return {name: torch.ones_like(p, dtype=torch.bool) for name, p in named if name in weights | {*extra}}


def sparse(masks: Masks, density: float, seed: int) -> Masks:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.rand(mask.shape, generator=generator) < density for name, mask in masks.items()}


def assert_same(found: Masks, expected: Masks) -> None:
    assert list(found) == list(expected)
    for name, mask in expected.items():
        assert torch.equal(found[name], mask), name


def mlp(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(widths):
        layers += [nn.Linear(fan_in, fan_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
