"""A compacted network is smaller and computes the same."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import prunelit
from prunelit.pruning.compact import compact
from prunelit.pruning.criteria import Mag
from prunelit.pruning.flops import count_flops
from prunelit.pruning.masks import attached
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import prune
from prunelit.request import PruningWarning
from prunelit.training.models import VGG, CifarResNet, ConvNet, LeNet5


def settle(network: nn.Module, images: Tensor) -> nn.Module:
    """Give BatchNorm statistics and shifts that are not those of the start."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    network.train()(images)
    return network.eval()


def objective(network: nn.Module, images: Tensor) -> Objective:
    labels = torch.arange(len(images)) % 10
    return Objective(
        lambda batch: F.cross_entropy(network(batch[0]), batch[1]), [(images, labels)], (images[:1],)
    )


def test_by_hand() -> None:
    """Unit 0 emits 0, nothing listens to unit 1, unit 2 stays; unit 3 has a bias left."""
    network = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        network[0].weight[:] = torch.tensor([[0.0, 0], [1, 1], [1, 2], [0, 0]])
        network[0].bias[:] = torch.tensor([0, 1, 0, 3.0])
        network[2].weight[:] = torch.tensor([[5.0, 0, 7, 2]])
    small = compact(network, torch.ones(1, 2))
    assert small[0].weight.tolist() == [[1, 2], [0, 0]]
    assert small[0].bias.tolist() == [0, 3]
    assert small[2].weight.tolist() == [[7, 2]]
    assert (small[0].out_features, small[2].in_features) == (2, 2)
    assert network[0].weight.shape == (4, 2)


def test_one_removal_leads_to_others() -> None:
    """The last layer listens to one unit only, which listens to one only, ..."""
    torch.manual_seed(0)
    network = nn.Sequential(*[layer for _ in range(4) for layer in (nn.Linear(6, 6), nn.ReLU())][:-1])
    with torch.no_grad():
        network[6].weight[:, 1:] = 0
        network[4].weight[0, 2:] = 0
    small = compact(network, torch.randn(3, 6))
    assert [tuple(layer.weight.shape) for layer in small[::2]] == [(6, 6), (2, 6), (1, 2), (6, 1)]


@pytest.mark.parametrize("make", [
    lambda: LeNet5(num_classes=10, input_shape=(1, 28, 28)),
    lambda: ConvNet(num_classes=10, input_shape=(3, 32, 32)),
    lambda: VGG(depth=11, batch_norm=True, num_classes=10, input_shape=(3, 32, 32)),
    lambda: CifarResNet(depth=20, num_classes=10, input_shape=(3, 32, 32)),
])  # fmt: skip
@pytest.mark.parametrize("criterion", [prunelit.L1Filter(), prunelit.ThiNet(positions=2)])
def test_filters_really_go(make, criterion) -> None:
    torch.manual_seed(0)
    network = make()
    images = torch.randn(
        4, 1 if isinstance(network, LeNet5) else 3, *[28 if isinstance(network, LeNet5) else 32] * 2
    )
    settle(network, images)
    prunelit.prune(network, criterion, 0.4, objective=objective(network, images))
    small = compact(network, images)
    with torch.no_grad():
        expected, found = network(images), small(images)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert list(small.state_dict()) == list(network.state_dict())
    assert sum(p.numel() for p in small.parameters()) < 0.8 * sum(p.numel() for p in network.parameters())
    assert count_flops(small, images[:1]).total < 0.8 * count_flops(network, images[:1]).total


def test_it_can_be_trained_on_with_its_masks() -> None:
    torch.manual_seed(0)
    network = VGG(depth=11, batch_norm=True, num_classes=10, input_shape=(3, 32, 32))
    prunelit.prune(network, prunelit.Rand(), 0.002)
    small = compact(network, torch.randn(2, 3, 32, 32))
    parameters = dict(small.named_parameters())
    masks = attached(small)
    assert masks
    assert all(masks[name].shape == parameters[name].shape for name in masks)
    assert sum(int(m.sum()) for m in masks.values()) <= sum(int(m.sum()) for m in attached(network).values())
    F.cross_entropy(small.train()(torch.randn(8, 3, 32, 32)), torch.arange(8)).backward()


def test_a_dense_network_stays_as_it_is() -> None:
    network = LeNet5(num_classes=10, input_shape=(1, 28, 28))
    small = compact(network, torch.randn(1, 1, 28, 28))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), small.parameters(), strict=True))


def test_an_empty_layer_keeps_a_unit() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.zeros_(network[0].weight)
    nn.init.zeros_(network[0].bias)
    small = compact(network, torch.randn(2, 3))
    assert small[0].weight.shape == (1, 3)
    assert torch.equal(small(torch.ones(1, 3)), network(torch.ones(1, 3)))


class Mixing(nn.Module):
    """A layer whose width must stay, in front of a LayerNorm, and two whose outputs are summed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Linear(4, 6), nn.LayerNorm(6)
        self.second, self.third, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.norm(self.first(x)))
        return self.last(x + self.third(x))


def test_units_in_front_of_a_layer_norm_stay_and_those_of_a_sum_go() -> None:
    network = Mixing()
    with torch.no_grad():
        for layer in (network.first, network.second, network.third):
            layer.weight[:3], layer.bias[:3] = 0, 0
        network.norm.weight[:3], network.norm.bias[:3] = 0, 0
    x = torch.randn(2, 4)
    small = compact(network, x)
    assert small.first.weight.shape == (6, 4)
    assert small.second.weight.shape == (3, 6)
    assert small.third.weight.shape == (3, 3)
    assert torch.allclose(small(x), network(x), atol=1e-6)


class Written(nn.Module):
    """Has a size written into its forward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.fc = nn.Conv2d(1, 5, 3), nn.Conv2d(5, 4, 1), nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.relu(self.second(self.first(x))).flatten(1).expand(-1, 16))


def test_a_size_written_into_the_code_keeps_one_layer_whole_and_not_the_others() -> None:
    network = Written()
    with torch.no_grad():
        for layer in (network.first, network.second):
            layer.weight[0], layer.bias[0] = 0, 0
    before = copy.deepcopy(network.state_dict())
    x = torch.randn(3, 1, 4, 4)
    with pytest.warns(
        PruningWarning, match=r"units without effect stay in Written: second\.weight .*expanded size"
    ):
        small = compact(network, x)
    assert (small.first.out_channels, small.second.out_channels) == (4, 4)
    assert torch.allclose(small(x), network(x), atol=1e-6)
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())


def test_layers_under_weight_norm_keep_their_width_in_a_smaller_copy() -> None:
    """Old-style weight norm holds a weight that it computed, which deepcopy alone refuses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        normed = nn.utils.weight_norm(nn.Linear(6, 5))
    network = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), normed, nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 2))
    with pytest.warns(PruningWarning, match=r"2\.weight_v \(torch\.nn\.utils\.weight_norm computes"):
        prune(network, Mag(), 0.9)
    network[3].weight.data[:4] = network[3].bias.data[:4] = 0
    network(torch.randn(2, 4))
    small = compact(network, torch.randn(2, 4))
    assert [tuple(small[i].weight.shape) for i in (0, 2, 3, 5)] == [(6, 4), (5, 6), (4, 5), (2, 4)]
    x = torch.randn(3, 4)
    assert torch.allclose(small(x), network(x), atol=1e-6)


def test_masks_on_attention_do_not_stand_in_the_way() -> None:
    class Attends(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
            self.first, self.last = nn.Linear(8, 6), nn.Linear(6, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.first(self.attention(x, x, x, need_weights=False)[0]).relu())

    network = Attends()
    masks = prune(network, Mag(), 0.5, selection=Selection(only=("attention",))).masks
    network.first.weight.data[0] = network.first.bias.data[0] = 0
    x = torch.randn(2, 5, 8)
    small = compact(network, x)
    assert small.first.out_features == 5
    assert torch.equal(attached(small)["attention.in_proj_weight"], masks["attention.in_proj_weight"])
    assert torch.allclose(small(x), network(x), atol=1e-6)
