"""SynFlow: the flow through each parameter, what it conserves, and that it keeps layers alive."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SNIP, Criterion, Mag, SynFlow
from prunelit.pruning.masks import Scores, collapsed_layers
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune

Example = Callable[..., Objective]
Linear = Callable[..., nn.Linear]
EVERYTHING = Selection(bias=True, norm=True)


def scores_of(network: nn.Module, objective: Objective, selection: Selection = EVERYTHING) -> Scores:
    return SynFlow().scores(network, selection.of(network), objective)


def mlp(*sizes: int, bias: bool = True) -> nn.Sequential:
    layers = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.ReLU())][:-1])


def test_two_layers_by_hand(linear: Linear, example: Example) -> None:
    network = nn.Sequential(linear([[1.0, -2.0], [-0.5, 3.0]], [-1.0, 0.0]), nn.ReLU(), linear([[2.0, -4.0]]))
    # |W1| (1, 1) + |b1| = (1 + 2 + 1, 0.5 + 3 + 0) = (4, 3.5);  R = 2 * 4 + 4 * 3.5 = 22
    # dR/dh = (2, 4);  |W1| dR/d|W1| = ((1, 2) * 2, (0.5, 3) * 4) = ((2, 4), (2, 12));  |b1| dR/d|b1| = (2, 0)
    # |W2| dR/d|W2| = (2 * 4, 4 * 3.5) = (8, 14)
    scores = scores_of(network, example(1, 2))
    assert scores["0.weight"].tolist() == [[2.0, 4.0], [2.0, 12.0]]
    assert scores["0.bias"].tolist() == [2.0, 0.0]
    assert scores["2.weight"].tolist() == [[8.0, 14.0]]


def test_enumerated_paths(example: Example) -> None:
    """A weight's score is the sum, over all paths through it, of the product of the path's weights."""
    torch.manual_seed(0)
    sizes = (3, 4, 2, 3)
    network = mlp(*sizes, bias=False)
    weights = [network[i].weight.abs().double().tolist() for i in (0, 2, 4)]
    expected = [[[0.0] * a for _ in range(b)] for a, b in itertools.pairwise(sizes)]
    for path in itertools.product(*map(range, sizes)):
        edges = list(itertools.pairwise(path))
        product = 1.0
        for layer, (a, b) in enumerate(edges):
            product *= weights[layer][b][a]
        for layer, (a, b) in enumerate(edges):
            expected[layer][b][a] += product
    scores = scores_of(network, example(1, 3))
    for layer, name in enumerate(["0.weight", "2.weight", "4.weight"]):
        torch.testing.assert_close(scores[name], torch.tensor(expected[layer], dtype=torch.float64))


def positive(network: nn.Module) -> nn.Module:
    """A float64 copy with absolute values for parameters and running means of 0, ready to run."""
    twin = copy.deepcopy(network).double().eval()
    for tensor in twin.parameters():
        tensor.data.abs_()
    for name, buffer in twin.named_buffers():
        if name.endswith("running_mean"):
            buffer.zero_()
    return twin


def test_central_differences(residual: nn.Module, example: Example) -> None:
    scores = scores_of(residual, example(2, 2, 5, 5))
    network = positive(residual)
    for name, score in scores.items():
        weights = network.get_parameter(name).data.view(-1)
        for i, value in enumerate(weights.tolist()):
            flows = []
            for factor in (1.5, 0.5):  # R is linear in each parameter, so any step is exact
                weights[i] = value * factor
                with torch.no_grad():
                    flows.append(float(network(torch.ones(1, 2, 5, 5).double()).sum()))
            weights[i] = value
            assert float(score.view(-1)[i]) == pytest.approx(flows[0] - flows[1], rel=1e-9, abs=1e-12)


def test_conservation_unit_by_unit_with_biases(example: Example) -> None:
    torch.manual_seed(0)
    network = mlp(7, 9, 5, 4)
    scores = scores_of(network, example(1, 7))
    for first, second in (("0", "2"), ("2", "4")):
        into = scores[f"{first}.weight"].sum(1) + scores[f"{first}.bias"]
        torch.testing.assert_close(into, scores[f"{second}.weight"].sum(0), rtol=1e-6, atol=0)


def test_conservation_unit_by_unit_through_convolutions_norms_and_pooling(example: Example) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(4 * 3 * 3, 5),
    )
    for bn in (network[1], network[5]):
        nn.init.normal_(bn.weight)
        nn.init.normal_(bn.bias)
        bn.running_mean.normal_()
        bn.running_var.uniform_(0.1, 3)
    scores = scores_of(network, example(1, 2, 16, 16))
    classifier = scores["9.weight"].sum(0).view(4, 9).sum(1)
    for conv, bn, out in (("0", "1", scores["4.weight"].sum((0, 2, 3))), ("4", "5", classifier)):
        into = scores[f"{conv}.weight"].sum((1, 2, 3)) + scores[f"{conv}.bias"]
        torch.testing.assert_close(into, scores[f"{bn}.weight"], rtol=1e-6, atol=0)
        torch.testing.assert_close(into + scores[f"{bn}.bias"], out, rtol=1e-6, atol=0)


def test_conservation_layer_by_layer_around_residual_sums(example: Example) -> None:
    """Every cut between input and output carries the whole flow R, shortcut and branch together."""

    class Shortcut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.bn = nn.BatchNorm2d(4)
            self.branch1 = nn.Conv2d(4, 4, 3, padding=1, bias=False)
            self.branch2 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
            self.bn2 = nn.BatchNorm2d(6)
            self.shortcut = nn.Conv2d(4, 6, 1, bias=False)
            self.fc = nn.Linear(6, 5, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            x = F.relu(self.bn(self.stem(x)))
            x = F.relu(self.bn2(self.branch2(F.relu(self.branch1(x)))) + self.shortcut(x))
            return self.fc(x.mean((2, 3)))

    torch.manual_seed(0)
    network = Shortcut()
    network.bn2.running_var.uniform_(0.1, 3)
    scores = scores_of(network, example(1, 3, 8, 8), Selection())
    with torch.no_grad():
        flow = float(positive(network)(torch.ones(1, 3, 8, 8).double()).sum())
    total = {name: float(score.sum()) for name, score in scores.items()}
    side = total["shortcut.weight"]
    assert 0 < side < flow
    for cut in (
        total["stem.weight"],
        total["branch1.weight"] + side,
        total["branch2.weight"] + side,
        total["fc.weight"],
    ):
        assert cut == pytest.approx(flow, rel=1e-6)


def vgg() -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise((3, 16, 16, 32, 32, 64, 64))):
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), nn.ReLU()]
        layers += [nn.MaxPool2d(2)] if i % 2 else []
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["mlp", "deep mlp", "vgg"])
def test_a_hundred_rounds_reach_the_critical_compression_and_one_does_not(
    kind: str, seed: int, example: Example
) -> None:
    def network() -> nn.Sequential:
        torch.manual_seed(seed)
        made = {"mlp": (64, 100, 100, 100, 10), "deep mlp": (20, *[30] * 12, 10), "vgg": None}[kind]
        network = vgg() if made is None else mlp(*made)
        for module in network:
            if isinstance(module, nn.Linear | nn.Conv2d):
                nn.init.zeros_(module.bias)  # a bias feeds later layers and starves earlier ones
        return network

    objective = example(1, 3, 16, 16) if kind == "vgg" else example(1, 64 if kind == "mlp" else 20)
    parameters = Selection().of(network())
    n, layers = sum(p.numel() for p in parameters.values()), len(parameters)

    def collapsed(criterion: Criterion, kept: int, rounds: int) -> int:
        masks = prune(network(), criterion, kept / n, plan=Plan(rounds), objective=objective).masks
        return len(collapsed_layers(masks))

    # No method can keep every layer with fewer parameters than layers; SynFlow does with as many.
    assert collapsed(SynFlow(), layers, rounds=100) == 0
    assert collapsed(SynFlow(), 2 * layers, rounds=100) == 0
    assert collapsed(SynFlow(), 2 * layers, rounds=1) > 0
    assert collapsed(Mag(), 2 * layers, rounds=1) > 0


def test_a_network_whose_flow_has_stopped_scores_zero(linear: Linear, example: Example) -> None:
    network = nn.Sequential(linear([[1.0, 0.0], [2.0, 0.0]]), linear([[0.0, 0.0]]))
    scores = scores_of(network, example(1, 2))
    assert all((score == 0).all() for score in scores.values())


def test_weights_on_no_path_score_zero(linear: Linear, example: Example) -> None:
    network = nn.Sequential(linear([[1.0, 1.0], [1.0, 1.0]]), nn.ReLU(), linear([[3.0, 0.0]]))
    scores = scores_of(network, example(1, 2))
    assert scores["0.weight"].tolist() == [[3.0, 3.0], [0.0, 0.0]]
    assert scores["2.weight"].tolist() == [[6.0, 0.0]]


def test_only_the_shape_of_the_input_counts(residual: nn.Module) -> None:
    found = [
        scores_of(residual, Objective(lambda batch: torch.zeros(()), [], (image,)))
        for image in (
            torch.zeros(1, 2, 5, 5),
            torch.randn(7, 2, 5, 5),
            torch.full((2, 2, 5, 5), float("nan")),
        )
    ]
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name])
        assert torch.equal(found[0][name], found[2][name])


def test_modes_and_statistics_of_training_do_not_matter(residual: nn.Module, example: Example) -> None:
    plain = prune(residual, SynFlow(), 1.0, objective=example(1, 2, 5, 5)).scores
    residual.bn1.running_mean.normal_()
    trained = prune(
        residual, SynFlow(), 1.0, plan=Plan(train_mode=True), objective=example(1, 2, 5, 5)
    ).scores
    assert all(torch.equal(plain[name], trained[name]) for name in plain)


def test_scores_are_those_of_a_loss_equal_to_the_flow(residual: nn.Module, example: Example) -> None:
    """SNIP of the loss R on the positive network is SynFlow."""
    network = positive(residual)
    ones = torch.ones(1, 2, 5, 5).double()
    objective = Objective(lambda batch: network(batch).sum(), [ones], (ones,))
    expected = SNIP().scores(network, EVERYTHING.of(network), objective)
    found = scores_of(residual, example(1, 2, 5, 5))
    for name in found:
        torch.testing.assert_close(found[name], expected[name])


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 100))
def test_permuted_hidden_units_permute_the_scores(order: list[int], seed: int) -> None:
    torch.manual_seed(seed)
    network = mlp(4, 6, 3)
    turned = copy.deepcopy(network)
    turned[0].weight.data, turned[0].bias.data = network[0].weight.data[order], network[0].bias.data[order]
    turned[2].weight.data = network[2].weight.data[:, order]
    objective = Objective(lambda batch: torch.zeros(()), [], (torch.zeros(1, 4),))
    scores, other = scores_of(network, objective), scores_of(turned, objective)
    torch.testing.assert_close(other["0.weight"], scores["0.weight"][order])
    torch.testing.assert_close(other["0.bias"], scores["0.bias"][order])
    torch.testing.assert_close(other["2.weight"], scores["2.weight"][:, order])
