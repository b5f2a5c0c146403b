"""With scope ``isomorphic`` units compete only with those of groups of the same kind."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunelit import Budget, Mag, Objective, Plan, Pruning, Selection, compact, prune
from prunelit.pruning.flops import count_flops
from prunelit.request import BadRequest

IMAGES = torch.rand(2, 3, 8, 8)
UNIT = Selection(granularity="unit")


class Block(nn.Module):
    """A hidden layer of its own width between two convolutions, in a sum with its input."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wide, self.back = nn.Conv2d(8, width, 3, padding=1), nn.Conv2d(width, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.back(self.wide(x).relu())


class Blocks(nn.Module):
    """Two blocks, whose hidden layers are of one kind, and the stream that they share, of another."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.first, self.second = nn.Conv2d(3, 8, 3), Block(12), Block(20)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.second(self.first(self.stem(x))).mean((2, 3)))


def network_with_scores() -> Blocks:
    """Return a network whose stream has by far the smallest weights, and the second block the largest."""
    torch.manual_seed(0)
    network = Blocks()
    with torch.no_grad():
        for name, factor in (("stem", 0.001), ("second.wide", 100.0)):
            layer = network.get_submodule(name)
            layer.weight *= factor
            layer.bias *= factor
    return network


def pruned(amount: float | Budget) -> Blocks:
    """Return the network pruned by magnitude, with the scores of its groups as they are."""
    network = network_with_scores()
    plan = Plan(scope="isomorphic", normalize="none")
    prune(network, Mag(), amount, selection=UNIT, plan=plan, objective=Objective(inputs=(IMAGES,)))
    return network


def kept(network: Blocks) -> tuple[int, int, int]:
    """Return the number of units left in the stream and in the hidden layers of both blocks."""
    layers = (network.stem, network.first.wide, network.second.wide)
    return tuple(int(layer.weight.flatten(1).any(1).sum()) for layer in layers)


def test_each_kind_keeps_its_share_and_its_groups_compete() -> None:
    # half of the 8 units of the stream; of the 12 + 20 hidden units the 16 of highest score, but one stays
    assert kept(pruned(0.5)) == (4, 1, 15)


def test_a_budget_is_met_with_the_same_share_of_each_kind() -> None:
    dense = count_flops(Blocks(), IMAGES[:1]).total
    network = pruned(Budget("flops", 0.4))
    stream, first, second = kept(network)
    assert first == 1
    assert stream / 8 == pytest.approx((first + second) / 32, abs=0.15)
    assert 0.3 < count_flops(compact(network, IMAGES), IMAGES[:1]).total / dense <= 0.4


def test_no_group_is_emptied_by_a_small_density() -> None:
    assert kept(pruned(0.01)) == (1, 1, 1)


def test_single_weights_have_no_kinds() -> None:
    network = network_with_scores()
    with pytest.raises(BadRequest, match=r"^scope=isomorphic: "):
        prune(network, Mag(), 0.5, plan=Plan(scope="isomorphic"))
    with pytest.raises(BadRequest, match=r"^scope=isomorphic: "):
        Pruning(Mag(), sparsity=0.5, scope="isomorphic")
