"""Which parameters make up a unit, and which layer takes its outputs."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.masks import apply_masks, full_masks
from prunelit.pruning.parameters import Selection
from prunelit.pruning.units import Groups, Units, output_units

WHOLE = Selection(bias=True, norm=True)


def settled(network: nn.Module) -> nn.Module:
    """The network in eval mode, with biases, scales, shifts and statistics that are not 0 or 1."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(getattr(module, "running_mean", None), Tensor):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    for parameter in network.parameters():
        parameter.data.normal_()
    return network.double().eval()


def units_of(network: nn.Module, *shape: int) -> dict[str, Units]:
    inputs = torch.rand(shape, dtype=torch.float64)
    return output_units(network, lambda: network(inputs))


class Plain(nn.Module):
    """Two convolutions, the first ReLU in place and the last BatchNorm behind its ReLU; linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, 3, bias=False), nn.ReLU(), nn.BatchNorm2d(6), nn.Dropout()),
        )
        self.first, self.norm = nn.Linear(24, 5), nn.LayerNorm(5)
        self.second, self.out = nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(self.features(x).flatten(1))))
        return self.out(F.gelu(self.second(x)))


def test_parts_and_next_layers_of_a_chain() -> None:
    found = units_of(settled(Plain()), 1, 2, 10, 10)
    assert {name: (u.count, list(u.members), u.next) for name, u in found.items()} == {
        "features.0": (
            4,
            ["features.0.weight", "features.0.bias", "features.1.weight", "features.1.bias"],
            "features.4",
        ),
        "features.4": (6, ["features.4.weight", "features.6.weight", "features.6.bias"], "first"),
        "first": (5, ["first.weight", "first.bias", "norm.weight", "norm.bias"], "second"),
        "second": (4, ["second.weight", "second.bias"], "out"),
        "out": (3, ["out.weight", "out.bias"], ""),
    }
    assert found["out"].end == "it is the last"
    assert all(not units.fault for units in found.values())


def test_the_network_is_left_as_it_was() -> None:
    network = Plain()
    network.first.weight.requires_grad_(False)
    network.norm.eval()
    before = [(p.requires_grad, p.grad, p.clone()) for p in network.parameters()]
    modes = [module.training for module in network.modules()]
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    inputs = torch.rand(2, 2, 10, 10)
    assert output_units(network, lambda: network(inputs))["first"].next == "second"
    for parameter, (requires, gradient, value) in zip(network.parameters(), before, strict=True):
        assert (parameter.requires_grad, parameter.grad) == (requires, gradient)
        assert torch.equal(parameter, value)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(buffer, buffers[name]) for name, buffer in network.named_buffers())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def prune_units(network: nn.Module, found: dict[str, Units], removed: dict[str, list[int]]) -> None:
    parameters = WHOLE.of(network)
    groups = Groups.of((found[layer] for layer in removed), parameters)
    start = full_masks(parameters)
    kept = groups.alive(start)
    for layer, indices in removed.items():
        kept[found[layer].weight][indices] = False
    apply_masks(parameters, groups.spread(kept, start))


def test_a_removed_unit_emits_exactly_zero() -> None:
    """Zero is also what reaches the next layer: as a channel, or as a block of inputs behind a flatten."""
    network = settled(Plain())
    prune_units(
        network, units_of(network, 1, 2, 10, 10), {"features.0": [1, 3], "features.4": [0], "first": [2]}
    )
    seen: dict[str, Tensor] = {}
    for name in ("features.1", "features.6", "norm"):
        network.get_submodule(name).register_forward_hook(
            lambda m, a, out, n=name: seen.update({n: out.clone()})
        )
    network.first.register_forward_pre_hook(lambda m, args: seen.update(first=args[0]))
    network(torch.randn(5, 2, 10, 10, dtype=torch.float64))
    assert seen["features.1"].ne(0).any(3).any(2).all(0).tolist() == [True, False, True, False]
    assert seen["features.6"].ne(0).any(3).any(2).all(0).tolist() == [False] + [True] * 5
    assert seen["norm"].ne(0).all(0).tolist() == [True, True, False, True, True]
    assert seen["first"].eq(0).all(0).tolist() == [True] * 4 + [False] * 20


def test_a_smaller_network_gives_the_same_logits() -> None:
    """Removed units leave no trace: without them, cut out by hand, the outputs are the same."""
    network = settled(nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.BatchNorm2d(5), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 6), nn.ReLU(), nn.Linear(6, 3),
    ))  # fmt: skip
    found = units_of(network, 1, 2, 8, 8)
    prune_units(network, found, {"0": [0], "3": [2, 4], "8": [1, 5]})
    small = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3), nn.ReLU(),
        nn.AvgPool2d(2), nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 3),
    )  # fmt: skip
    rows = {"0": [1, 2, 3], "3": [0, 1, 3], "8": [0, 2, 3, 4], "10": [0, 1, 2]}
    columns = {
        "0": [0, 1],
        "3": rows["0"],
        "8": [4 * c + i for c in rows["3"] for i in range(4)],
        "10": rows["8"],
    }
    weights = network.state_dict()
    for name in weights:
        layer, leaf = name.split(".")
        owner = {"1": "0", "4": "3"}.get(layer, layer)
        if leaf != "num_batches_tracked":
            weights[name] = weights[name][rows[owner]]
        if leaf == "weight" and layer in columns:
            weights[name] = weights[name][:, columns[layer]]
    small.double().eval().load_state_dict(weights)
    images = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(network(images), small(images), rtol=1e-12, atol=1e-12)


class Wired(nn.Module):
    """Two layers ``a`` and ``b`` on images of 4 channels, wired by a function."""

    def __init__(self, wiring: Callable[[Wired, Tensor], Tensor], b: nn.Module | None = None) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), b or nn.Conv2d(4, 4, 3, padding=1)
        self.wiring = wiring

    def forward(self, x: Tensor) -> Tensor:
        return self.wiring(self, x)


STOPS = {
    "sum": (lambda n, x: n.b(x + n.a(x)), None, "its outputs go through Add"),
    "cat": (lambda n, x: n.b(torch.cat([n.a(x)[:, :2], x[:, :2]], 1)), None, "its outputs go through Slice"),
    "branch": (lambda n, x: n.b(y := n.a(x)) + y, None, "its outputs go several ways"),
    "sigmoid": (lambda n, x: n.b(n.a(x).sigmoid()), None, "its outputs go through Sigmoid"),
    "transpose": (lambda n, x: n.b(n.a(x).transpose(1, 2)), None, "its outputs go through Transpose"),
    "twice": (lambda n, x: n.b(n.a(n.a(x))), None, "it runs more than once"),
    "next twice": (lambda n, x: n.b(n.b(n.a(x))), None, "b runs more than once"),
    "unused": (lambda n, x: n.b(x), None, "it does not run"),
    "last": (lambda n, x: n.a(n.b(x)), None, "it is the last"),
    "groups": (lambda n, x: n.b(n.a(x)), nn.Conv2d(4, 4, 3, groups=2), "b is a transposed .* in groups"),
    "linear on rows": (lambda n, x: n.b(n.a(x)), nn.Linear(4, 2), "inputs of b are not its units in a row"),
}  # fmt: skip


@pytest.mark.parametrize("kind", STOPS)
def test_what_stands_in_the_way_of_the_next_layer_is_said(kind: str) -> None:
    wiring, layer, reason = STOPS[kind]
    units = units_of(settled(Wired(wiring, layer)), 1, 4, 4, 4)["a"]
    assert units.next == ""
    assert re.search(reason, units.end), units.end
    assert not units.fault


def test_a_weight_of_two_layers_stands_in_the_way() -> None:
    network = settled(Wired(lambda n, x: n.b(n.a(x))))
    assert units_of(network, 1, 4, 4, 4)["a"].next == "b"
    network.b.weight = network.a.weight
    assert "shares its weight" in units_of(network, 1, 4, 4, 4)["a"].end


FAULTY = {
    "no scale": (nn.BatchNorm2d(4, affine=False), lambda n, x: n.b(n.a(x))),
    "of two layers": (nn.BatchNorm2d(4), lambda n, x: n.b(n.a(x)) + n.b(x)),
    "over rows": (nn.LayerNorm(4), lambda n, x: n.b(n.a(x))),
}  # fmt: skip


@pytest.mark.parametrize("kind", FAULTY)
def test_a_normalisation_that_cannot_be_zeroed_by_unit_is_a_fault(kind: str) -> None:
    """Else a unit without its weights would still emit a constant."""
    norm, wiring = FAULTY[kind]
    units = units_of(settled(Wired(wiring, norm)), 1, 4, 4, 4)["a"]
    assert "b, behind it, has no scale for each of its units alone" in units.fault
    assert Groups.of([units], WHOLE.of(Wired(wiring, norm))).units == ()


@pytest.mark.parametrize(
    "norm", [nn.GroupNorm(2, 4), nn.InstanceNorm2d(4, affine=True), nn.LayerNorm([4, 4, 4])]
)
def test_other_normalisations_belong_to_their_units(norm: nn.Module) -> None:
    network = settled(Wired(lambda n, x: n.b(n.a(x)), norm))
    found = units_of(network, 1, 4, 4, 4)
    assert list(found["a"].members) == ["a.weight", "a.bias", "b.weight", "b.bias"]
    prune_units(network, found, {"a": [2]})
    assert network(torch.randn(3, 4, 4, 4, dtype=torch.float64))[:, 2].eq(0).all()


def test_filters_of_a_transposed_convolution_lie_along_axis_1() -> None:
    network = settled(nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.Conv2d(3, 1, 1)))
    found = units_of(network, 1, 2, 4, 4)
    assert (found["0"].members, found["0"].count) == ({"0.weight": 1, "0.bias": 0}, 3)
    prune_units(network, found, {"0": [1]})
    assert network[0](torch.randn(1, 2, 4, 4, dtype=torch.float64))[0].ne(0).any(2).any(1).tolist() == [
        1,
        0,
        1,
    ]
    grouped = units_of(settled(nn.Sequential(nn.ConvTranspose2d(2, 4, 2, groups=2))), 1, 2, 4, 4)
    assert "in groups" in grouped["0"].fault


def test_groups_by_hand() -> None:
    units = Units("a", "a.weight", 2, {"a.weight": 0, "a.bias": 0})
    groups = Groups((units,), ("b.weight",))
    scores = {"a.weight": torch.tensor([[3.0, 3.0], [1.0, 1.0]]), "a.bias": torch.tensor([3.0, 1.0])}
    scores |= {"b.weight": torch.tensor([[5.0, 6.0]]), "c.weight": torch.tensor([[7.0]])}
    gathered = groups.gather(scores)
    assert {name: score.tolist() for name, score in gathered.items()} == {
        "a.weight": [3.0, 1.0],
        "b.weight": [[5.0, 6.0]],
    }
    previous = full_masks(scores)
    previous["a.weight"][0] = torch.tensor([False, True])
    previous["b.weight"][0, 0] = False
    alive = groups.alive(previous)
    assert {name: mask.tolist() for name, mask in alive.items()} == {
        "a.weight": [True, True],
        "b.weight": [[False, True]],
    }
    kept = {"a.weight": torch.tensor([True, False]), "b.weight": torch.tensor([[True, True]])}
    assert {name: mask.int().tolist() for name, mask in groups.spread(kept, previous).items()} == {
        "a.weight": [[0, 1], [0, 0]],
        "a.bias": [1, 0],
        "b.weight": [[0, 1]],
        "c.weight": [[1]],
    }


def test_a_layer_with_a_part_left_out_stays_whole() -> None:
    network = settled(Plain())
    found = units_of(network, 1, 2, 10, 10)
    parameters = Selection(bias=True, norm=True, exclude=("features.1", "second")).of(network)
    assert [u.layer for u in Groups.of(found.values(), parameters).units] == ["features.4", "first", "out"]
