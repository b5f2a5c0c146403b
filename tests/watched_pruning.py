"""What tests of pruning in rounds share: a criterion that notes what it sees, and comparisons of values."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from prunelit.pruning.criteria import Criterion, Mag
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters


class Watched(Criterion):
    """Magnitude, with a note of what the network looks like at each round."""

    def __init__(self) -> None:
        self.kept: list[dict[str, Tensor]] = []
        self.training: list[bool] = []

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        self.kept.append({name: p.detach() != 0 for name, p in parameters.items()})
        self.training.append(all(module.training for module in network.modules()))
        return Mag().scores(network, parameters, objective)


def mlp(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.ReLU())][:-1])


def values(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(network: nn.Module, before: dict[str, Tensor]) -> bool:
    return all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def assert_pruned(network: nn.Module, masks: dict[str, Tensor], before: dict[str, Tensor]) -> None:
    """Pruned weights are 0 and all else is as before."""
    for name, tensor in network.state_dict().items():
        expected = before[name] * masks[name] if name in masks else before[name]
        assert torch.equal(tensor, expected), name
