"""SNIP: the sensitivity of the loss to a gate on each connection."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SNIP
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune

Batches = list[tuple[Tensor, Tensor]]
Linear = Callable[..., nn.Linear]


def test_two_layers_by_hand(linear: Linear) -> None:
    network = nn.Sequential(linear([[1.0, -2.0], [0.5, 3.0]]), linear([[2.0, -1.0]]))
    x, target = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[-10.0]]).double()
    # h = W1 x = (1 - 4, 0.5 + 6) = (-3, 6.5);  y = 2 (-3) - 6.5 = -12.5
    # L = (y + 10)^2 / 2 = 3.125;  dL/dy = y + 10 = -2.5
    # dL/dW2 = dL/dy h = (7.5, -16.25);  |W2 * dL/dW2| = (15, 16.25)
    # dL/dh = dL/dy W2 = (-5, 2.5);  dL/dW1 = ((-5, -10), (2.5, 5));  |W1 * dL/dW1| = ((5, 20), (1.25, 15))
    objective = Objective.of_classifier(network, [(x, target)], lambda y, t: ((y - t) ** 2 / 2).mean())
    scores = SNIP().scores(network, Selection().of(network), objective)
    assert scores["0.weight"].tolist() == [[5.0, 20.0], [1.25, 15.0]]
    assert scores["1.weight"].tolist() == [[15.0, 16.25]]


@pytest.mark.parametrize("train_mode", [False, True])
def test_finite_differences_of_gates(residual: nn.Module, images: Batches, train_mode: bool) -> None:
    selection = Selection(bias=True, norm=True)
    outcome = prune(
        residual,
        SNIP(),
        1.0,
        selection=selection,
        plan=Plan(train_mode=train_mode),
        objective=Objective.of_classifier(residual, images),
    )
    network = copy.deepcopy(residual).train(train_mode)
    step = 1e-5

    @torch.no_grad()
    def loss() -> float:
        """Mean over all nine samples, batch by batch: in train mode BatchNorm sees each batch alone."""
        sums = [F.cross_entropy(network(x), y, reduction="sum") for x, y in images]
        return float(sum(sums)) / sum(len(y) for _, y in images)

    for name, score in outcome.scores.items():
        weights = network.get_parameter(name).data.view(-1)
        for i, value in enumerate(weights.tolist()):
            weights[i] = value * (1 + step)
            above = loss()
            weights[i] = value * (1 - step)
            below = loss()
            weights[i] = value
            expected = abs(above - below) / (2 * step)
            assert float(score.view(-1)[i]) == pytest.approx(expected, rel=1e-5, abs=1e-9), (name, i)


def test_batches_weigh_by_their_samples(residual: nn.Module, images: Batches) -> None:
    residual.eval()
    parameters = Selection().of(residual)
    joined = [(torch.cat([x for x, _ in images]), torch.cat([y for _, y in images]))]
    parts = SNIP().scores(residual, parameters, Objective.of_classifier(residual, images))
    whole = SNIP().scores(residual, parameters, Objective.of_classifier(residual, joined))
    for name in parameters:
        torch.testing.assert_close(parts[name], whole[name])


def test_an_unused_layer_and_a_removed_weight_score_zero(linear: Linear) -> None:
    network = nn.ModuleDict({"used": linear([[0.0, 1.0]]), "unused": linear([[1.0]])})
    objective = Objective(lambda x: network["used"](x).square().sum(), [torch.ones(1, 2).double()], ())
    scores = SNIP().scores(network, Selection().of(network), objective)
    # y = 1: dL/dw = 2 for both weights of the used layer.
    assert scores["used.weight"].tolist() == [[0.0, 2.0]]
    assert scores["unused.weight"].tolist() == [[0.0]]


@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(5)))
def test_permuted_hidden_units_permute_the_masks(order: list[int]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    batch = (torch.randn(8, 4).double(), torch.randint(3, (8,)))
    turned = copy.deepcopy(network)
    turned[0].weight.data, turned[0].bias.data = network[0].weight.data[order], network[0].bias.data[order]
    turned[2].weight.data = network[2].weight.data[:, order]
    masks = prune(network, SNIP(), 0.4, objective=Objective.of_classifier(network, [batch])).masks
    other = prune(turned, SNIP(), 0.4, objective=Objective.of_classifier(turned, [batch])).masks
    assert torch.equal(other["0.weight"], masks["0.weight"][order])
    assert torch.equal(other["2.weight"], masks["2.weight"][:, order])
