"""What a block may change and finds restored."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunelit.pruning.criteria import SNIP
from prunelit.pruning.objective import Objective
from prunelit.pruning.preserve import modes, preserved, random_state
from prunelit.pruning.rounds import prune


def draws() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def seed_all(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@pytest.mark.parametrize("fail", [False, True])
def test_random_state_is_seeded_inside_and_restored_after(fail: bool) -> None:
    seed_all(1)
    expected = draws()
    seed_all(1)
    try:
        with random_state(5):
            first = draws()
            if fail:
                raise RuntimeError
    except RuntimeError:
        pass
    assert draws() == expected
    with random_state(5):
        assert draws() == first
    with random_state(6):
        others = draws()
        assert all(a != b for a, b in zip(others, first, strict=True))


@pytest.mark.parametrize("seed", [0, -1, 2**32, 2**63])
def test_any_integer_is_a_seed(seed: int) -> None:
    with random_state(seed):
        first = draws()
    with random_state(seed):
        assert draws() == first


def test_random_state_does_not_repeat_the_stream_that_networks_are_drawn_from() -> None:
    torch.manual_seed(0)
    drawn = nn.Linear(4, 4).weight
    with random_state(0):
        assert not torch.equal(nn.Linear(4, 4).weight, drawn)


class Stateful(nn.Module):
    """A buffer changed in place, one that is replaced, one that comes to be, one that can't be written to."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 2)
        self.bn = nn.BatchNorm1d(2)
        self.register_buffer("average", torch.zeros(2))
        self.register_buffer("late", None)
        self.register_buffer("view", torch.ones(1).expand(3), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.fc(x))
        self.average = 0.9 * self.average + x.detach().mean(0)
        self.late = torch.ones(1)
        self.register_buffer("new", torch.ones(1))
        return x


def disturb(network: Stateful) -> None:
    network.train()
    network(torch.randn(4, 2)).sum().backward()
    network.bn.eval()
    with torch.no_grad():
        network.fc.weight.mul_(3)
        network.fc.bias.data = torch.full((2,), 7.0)
    network.bn.weight = nn.Parameter(torch.zeros(2))
    network.fc.requires_grad_(False)


@pytest.mark.parametrize("fail", [False, True])
def test_preserved_gives_back_weights_gradients_buffers_and_modes(fail: bool) -> None:
    torch.manual_seed(0)
    network = Stateful()
    network.eval()
    network.fc.train()
    network.fc.bias.requires_grad_(False)
    network.fc.weight.grad = gradient = torch.ones(2, 2)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    before = [module.training for module in network.modules()]
    try:
        with preserved(network):
            assert all(p.requires_grad and p.grad is None for p in network.parameters())
            disturb(network)
            if fail:
                raise RuntimeError
    except RuntimeError:
        pass
    after = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    assert list(after) == list(tensors)
    for name, tensor in after.items():
        assert tensor is tensors[name], name
        assert torch.equal(tensor, values[name]), name
    assert network.late is None
    assert network.fc.weight.grad is gradient
    assert torch.equal(gradient, torch.ones(2, 2))
    assert network.fc.bias.grad is None
    assert not network.fc.bias.requires_grad
    assert network.fc.weight.requires_grad
    assert [module.training for module in network.modules()] == before


def test_preserved_has_gradients_inside_no_grad() -> None:
    network = nn.Linear(2, 1)
    with torch.no_grad():
        with preserved(network):
            network(torch.ones(1, 2)).sum().backward()
        assert not torch.is_grad_enabled()
    assert network.weight.grad is None


def test_modes_module_by_module() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(2))
    network[1].eval()
    with modes(network):
        network.eval()
        network[1].train()
    assert (network.training, network[0].training, network[1].training) == (True, True, False)


def test_a_frozen_copy_may_be_updated_in_place_while_scores_are_taken() -> None:
    torch.manual_seed(0)
    network = nn.ModuleDict({"online": nn.Linear(4, 3), "target": nn.Linear(4, 3).requires_grad_(False)})
    before = {name: p.clone() for name, p in network.named_parameters()}

    def loss(batch: torch.Tensor) -> torch.Tensor:
        for copied, own in zip(network["target"].parameters(), network["online"].parameters(), strict=True):
            copied.mul_(0.9).add_(0.1 * own.detach())
        return (network["online"](batch) - network["target"](batch)).square().mean()

    masks = prune(network, SNIP(), 0.5, objective=Objective(loss, [torch.randn(5, 4)])).masks
    assert list(masks) == ["online.weight"]
    assert torch.equal(network["target"].weight, before["target.weight"])
    assert not network["target"].weight.requires_grad
