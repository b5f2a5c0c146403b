"""Paths by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from masked import assert_same, full, mlp, sparse
from prunelit.pruning.paths import effective_density, effective_masks


def test_dead_hidden_units_take_their_weights_along() -> None:
    network = mlp(2, 3, 2)
    masks = full(network)
    masks["0.weight"] = torch.tensor([[1, 1], [0, 0], [1, 0]]).bool()  # nothing enters unit 1
    masks["2.weight"] = torch.tensor([[1, 1, 0], [0, 1, 0]]).bool()  # nothing leaves unit 2
    expected = {
        "0.weight": torch.tensor([[1, 1], [0, 0], [0, 0]]).bool(),
        "2.weight": torch.tensor([[1, 0, 0], [0, 0, 0]]).bool(),
    }
    assert_same(effective_masks(network, masks, torch.randn(1, 2)), expected)
    assert effective_density(network, masks, torch.randn(1, 2)) == 3 / 12


def test_death_spreads_through_layers() -> None:
    network = mlp(1, 2, 2, 1)
    masks = full(network)
    masks["0.weight"] = torch.tensor([[1], [0]]).bool()
    masks["2.weight"] = torch.tensor([[0, 1], [1, 0]]).bool()  # unit 0 hears the dead unit 1 only
    found = effective_masks(network, masks, torch.randn(1, 1))
    assert_same(
        found,
        {
            "0.weight": torch.tensor([[1], [0]]).bool(),
            "2.weight": torch.tensor([[0, 0], [1, 0]]).bool(),
            "4.weight": torch.tensor([[0, 1]]).bool(),
        },
    )


def test_channel_cut_after_the_pool_takes_its_kernels_and_norm_along() -> None:
    network = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU(True), nn.MaxPool2d(2), nn.Flatten()
    )
    network.append(nn.Linear(3 * 4, 2))
    masks = full(network, "0.bias", "1.weight", "1.bias")
    masks["5.weight"].view(2, 3, 4)[:, 1] = False
    expected = {name: mask.clone() for name, mask in masks.items()}
    for name in ("0.weight", "0.bias", "1.weight", "1.bias"):
        expected[name][1] = False
    assert_same(effective_masks(network, masks, torch.randn(1, 2, 4, 4)), expected)


def test_max_pool_looks_at_its_whole_window() -> None:
    network = nn.Sequential(
        nn.MaxPool1d(3, stride=1, padding=1), nn.MaxPool1d(2, ceil_mode=True), nn.Linear(3, 1)
    )
    network.insert(0, nn.Linear(5, 5, bias=False))
    masks = full(network)
    masks["0.weight"] = torch.eye(5).bool()
    masks["3.weight"] = torch.tensor([[0, 1, 0]]).bool()  # sees 1..4 through both windows
    found = effective_masks(network, masks, torch.randn(1, 1, 5))
    assert_same({"kept": found["0.weight"].diagonal()}, {"kept": torch.tensor([0, 1, 1, 1, 1]).bool()})


def test_pruned_norm_weight_blocks_its_unit() -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    masks = full(network, "1.weight", "1.bias")
    masks["1.weight"][0] = False
    found = effective_masks(network, masks, torch.randn(1, 2))
    assert_same(
        found,
        {
            "0.weight": torch.tensor([[0, 0], [1, 1]]).bool(),
            "1.weight": torch.tensor([0, 1]).bool(),
            "1.bias": torch.tensor([0, 1]).bool(),
            "2.weight": torch.tensor([[0, 1]]).bool(),
        },
    )


def test_biases_start_no_path_and_count_where_their_unit_does() -> None:
    network = mlp(2, 3, 2)
    masks = full(network, "0.bias", "2.bias")
    masks["0.weight"] = torch.tensor([[1, 1], [0, 0], [1, 1]]).bool()
    masks["0.bias"] = torch.tensor([1, 1, 0]).bool()
    masks["2.weight"] = torch.tensor([[1, 1, 1], [0, 1, 0]]).bool()
    found = effective_masks(network, masks, torch.randn(1, 2))
    assert_same({"b": found["0.bias"]}, {"b": torch.tensor([1, 0, 0]).bool()})
    assert_same({"w": found["2.weight"]}, {"w": torch.tensor([[1, 0, 1], [0, 0, 0]]).bool()})
    assert_same({"b": found["2.bias"]}, {"b": torch.tensor([1, 0]).bool()})


class Residual(nn.Module):
    """Stem, a block whose sum is in place, head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 2, 3, padding=1)
        self.inner = nn.Conv2d(2, 2, 3, padding=1)
        self.norm = nn.BatchNorm2d(2)
        self.head = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        out = self.norm(self.inner(x))
        out += x
        return self.head(F.adaptive_avg_pool2d(F.relu_(out), 1).flatten(1))


def test_skip_path_keeps_earlier_weights() -> None:
    network = Residual()
    masks = full(network)
    masks["inner.weight"][:] = False
    assert_same(effective_masks(network, masks, torch.randn(1, 1, 4, 4)), masks)
    masks["stem.weight"][0] = False
    masks["inner.weight"][0, 0] = True  # from the dead channel to itself
    found = effective_masks(network, masks, torch.randn(1, 1, 4, 4))
    assert not found["inner.weight"].any()
    assert_same({"head": found["head.weight"]}, {"head": torch.tensor([[0, 1], [0, 1]]).bool()})


def test_grouped_convolution_stays_within_its_group() -> None:
    network = nn.Sequential(nn.Conv1d(2, 4, 1), nn.Conv1d(4, 4, 1, groups=2), nn.Conv1d(4, 1, 1))
    masks = full(network)
    masks["0.weight"][:2] = False  # the first group hears nothing
    found = effective_masks(network, masks, torch.randn(1, 2, 3))
    halves = torch.tensor([0, 0, 1, 1]).bool()
    assert_same({"w": found["1.weight"]}, {"w": halves.view(4, 1, 1).expand(4, 2, 1)})
    assert_same({"w": found["2.weight"]}, {"w": halves.view(1, 4, 1)})


def test_module_used_twice_counts_in_either_place() -> None:
    shared = nn.Linear(2, 2)
    network = nn.Sequential(shared, nn.ReLU(), shared)
    masks = {"0.weight": torch.tensor([[0, 1], [0, 0]]).bool()}  # reaches unit 0, which leads nowhere
    assert effective_density(network, masks, torch.randn(1, 2)) == 0
    masks = {"0.weight": torch.tensor([[0, 1], [1, 0]]).bool()}
    assert_same(effective_masks(network, masks, torch.randn(1, 2)), masks)


def test_concatenated_branches() -> None:
    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.head = nn.Linear(2, 1), nn.Linear(2, 1), nn.Linear(3, 1)
            self.constant = nn.Parameter(torch.ones(1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.cat([self.a(x), self.constant, self.b(x)], 1))

    network = Branches()
    masks = full(network)
    masks["head.weight"] = torch.tensor([[1, 1, 0]]).bool()
    found = effective_masks(network, masks, torch.randn(1, 2))
    assert found["a.weight"].all()
    assert not found["b.weight"].any()
    assert found["head.weight"].tolist() == [[True, False, False]]  # a constant is no input


def test_closed_gate_blocks_no_path_and_open_one_counts() -> None:
    class Gated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.gate = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x) * torch.sigmoid(self.gate(x))

    network = Gated()
    masks = full(network)
    assert effective_density(network, masks, torch.randn(1, 2)) == 1
    masks["gate.weight"][0] = False
    assert effective_masks(network, masks, torch.randn(1, 2))["body.weight"].all()
    masks["body.weight"][1] = False
    assert not effective_masks(network, masks, torch.randn(1, 2))["gate.weight"].any()


def test_attention_has_paths_through_values_whatever_the_queries() -> None:
    network = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0)
    masks = full(network, "self_attn.in_proj_weight")
    example = torch.randn(1, 3, 4)
    assert effective_density(network, masks, example) == 1
    queries, _, values = masks["self_attn.in_proj_weight"].view(3, 2, 2, 4)  # by head
    queries[0] = False  # keys of head 0 meet nothing
    values[1] = False  # head 1 has nothing to say
    found = effective_masks(network, masks, example)["self_attn.in_proj_weight"].view(3, 2, 2, 4)
    assert found.all((2, 3)).tolist() == [[False, False], [False, False], [True, False]]
    assert found.any((2, 3)).tolist() == [[False, False], [False, False], [True, False]]


def test_empty_layer_leaves_nothing() -> None:
    network = mlp(4, 4, 4, 4)
    masks = full(network)
    masks["2.weight"][:] = False
    assert effective_density(network, masks, torch.randn(1, 4)) == 0


@pytest.mark.parametrize("density", [0.02, 1.0])
def test_depth_costs_no_precision(density: float) -> None:
    network = mlp(*[64] * 201)
    masks = full(network)
    for i, mask in enumerate(masks.values()):  # a diagonal keeps every unit alive
        mask &= sparse({"m": mask}, density, i)["m"] | torch.eye(64, dtype=torch.bool)
    assert_same(effective_masks(network, masks, torch.randn(1, 64)), masks)


def test_depth_of_sums_costs_no_precision() -> None:
    class Doubling(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for _ in range(300):
                x = x + x.relu()
            return self.last(x)

    assert effective_density(Doubling(), full(Doubling()), torch.randn(1, 2)) == 1
