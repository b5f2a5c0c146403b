"""Paths by hand, against two slow references, and a network that is left as it was found."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.paths import effective_density, effective_masks

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


# --- by hand


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


# --- against slow references


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


# --- manners


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
