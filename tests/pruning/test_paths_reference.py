"""Paths against two slow references, and a network that is left as it was found."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masked import assert_same, full, mlp, sparse
from prunelit.pruning.paths import effective_density, effective_masks


@pytest.mark.parametrize("seed", range(5))
def test_as_a_search_of_the_unit_graph(seed: int) -> None:
    network = mlp(6, 7, 5, 8, 3)
    masks = sparse(full(network), 0.2, seed)
    layers = list(masks.values())
    forward = [torch.ones(6).bool()]
    for mask in layers:
        forward.append(torch.stack([(row & forward[-1]).any() for row in mask]))
    backward = [torch.ones(3).bool()]
    for mask in reversed(layers):
        backward.insert(0, torch.stack([(column & backward[0]).any() for column in mask.T]))
    expected = {
        name: mask & forward[i][None, :] & backward[i + 1][:, None]
        for i, (name, mask) in enumerate(masks.items())
    }
    assert_same(effective_masks(network, masks, torch.randn(1, 6)), expected)


class Varied(nn.Module):
    """Convolutions of all kinds, norms, both poolings, a concatenation, a residual sum, a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.b = nn.Conv2d(6, 6, 3, groups=6, dilation=2, padding=2)
        self.c = nn.Conv2d(12, 6, 1, groups=3)
        self.up = nn.ConvTranspose2d(6, 4, 2, stride=2)
        self.head = nn.Linear(4 * 9, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.a(x)))
        x = x + F.max_pool2d(self.b(x), 3, stride=1, padding=1)
        x = self.c(torch.cat([x, F.dropout(x.flip(1), 0.5, self.training)], 1))
        x = F.avg_pool2d(self.up(F.max_pool2d(x, 2, ceil_mode=True)), 2)
        return self.head(x.flatten(1))


@pytest.mark.parametrize("density", [0.2, 0.4])
@pytest.mark.parametrize("seed", range(4))
def test_as_derivatives_at_random_positive_weights(
    seed: int, density: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With positive weights nothing cancels: a weight is on a path iff the outputs' sum depends on it."""
    torch.manual_seed(seed)
    network = Varied()
    masks = sparse(full(network, "norm.weight"), density, seed)
    masks["norm.weight"] |= torch.arange(6) < 4
    masks["head.weight"][0] = True
    example = torch.rand(1, 2, 6, 6)
    found = effective_masks(network, masks, example)

    reference = Varied().double().eval()
    for name, parameter in reference.named_parameters():
        parameter.data = torch.rand_like(parameter) + 0.5 if name in masks else torch.zeros_like(parameter)
        parameter.data *= masks.get(name, 1)
    # An average depends on its whole window, a maximum only where it is reached.
    monkeypatch.setattr(F, "max_pool2d", F.avg_pool2d)
    reference(example.double()).sum().backward()
    slow = {name: mask & (reference.get_parameter(name).grad != 0) for name, mask in masks.items()}
    assert_same(found, {name: slow[name] for name in masks})
    assert 0 < sum(int(m.sum()) for m in found.values()) < sum(int(m.sum()) for m in masks.values())


class Restless(nn.Module):
    def __init__(self, fail: bool) -> None:
        super().__init__()
        self.fail = fail
        self.layer = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout(0.5))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x += torch.rand(3)
        if self.fail:
            raise RuntimeError("no such\nthing")
        return self.layer(x)


@pytest.mark.parametrize("fail", [False, True])
def test_leaves_everything_as_it_was(fail: bool) -> None:
    network = Restless(fail).train()
    network.layer[1].eval()
    network.layer[0].bias.grad = torch.full((3,), 7.0)
    network.layer[0].weight.requires_grad_(False)
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    identity = {name: id(parameter) for name, parameter in network.named_parameters()}
    example, masks = torch.randn(1, 3), full(network)
    before, random = example.clone(), torch.get_rng_state()
    if fail:
        with pytest.raises(
            ValueError, match=r"^no paths can be followed in Restless: RuntimeError: no such$"
        ):
            effective_masks(network, masks, example)
    else:
        with torch.inference_mode():
            assert effective_density(network, masks, example) == 1
    assert torch.equal(example, before)
    assert [module.training for module in network.modules()] == modes
    assert {name: id(parameter) for name, parameter in network.named_parameters()} == identity
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert network.layer[0].bias.grad.tolist() == [7, 7, 7]
    assert network.layer[0].weight.grad is None
    assert not network.layer[0].weight.requires_grad
    assert torch.equal(torch.get_rng_state(), random)


def test_refuses_what_it_cannot_follow() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.lstm = nn.Linear(3, 3), nn.LSTM(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.lstm(self.first(x))[0]

    with pytest.raises(ValueError, match="Recurrent: TypeError: the operation lstm is not followed"):
        effective_masks(Recurrent(), full(Recurrent()), torch.randn(1, 3))
    with pytest.raises(ValueError, match=r"a mask named 1.weight of shape \(2, 2\) fits no parameter"):
        effective_masks(mlp(2, 2), {"1.weight": torch.ones(2, 2).bool()}, torch.randn(1, 2))


def test_without_masks_all_is_effective() -> None:
    assert effective_masks(mlp(2, 2), {}, torch.randn(1, 2)) == {}
    assert effective_density(mlp(2, 2), {}, torch.randn(1, 2)) == 1
