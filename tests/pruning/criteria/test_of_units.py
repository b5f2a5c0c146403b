"""Criteria of whole units by hand: L2 norm, geometric median, and the scale of BatchNorm."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunelit import FPGM, BadRequest, BNScale, L1Filter, L2Filter, Objective, Plan, Pruning, Selection, prune
from prunelit.pruning.criteria.of_units import OfUnits

WHOLE = Selection(bias=True, norm=True)
UNIT = Selection(granularity="unit")
INPUT = torch.randn(1, 1, 1, 2)


def hand_made() -> nn.Sequential:
    """Four filters of two weights, with a BatchNorm, and a linear layer without one."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 4, (1, 2)), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)),
    )
    with torch.no_grad():
        filters = torch.tensor([[3.0, 4.0], [0.0, 5.0], [0.0, 4.0], [6.0, 8.0]])
        network[0].weight.copy_(filters.view(4, 1, 1, 2))
        network[1].weight.copy_(torch.tensor([-0.9, 0.1, 0.5, -0.2]))
        network[4].weight.copy_(torch.tensor([[0.0, 3, 4, 0], [1, 0, 0, 0], [0, 0, 0, 3]]))
    return network


def scores_of(criterion: OfUnits, network: nn.Module) -> dict[str, Tensor]:
    return criterion.scores(network, WHOLE.of(network), Objective(inputs=(INPUT,)))


ROOT = {
    "of 0 and 1": 10**0.5,  # (3, 4) and (0, 5)
    "of 1 and 3": 45**0.5,  # (0, 5) and (6, 8)
    "of 2 and 3": 52**0.5,  # (0, 4) and (6, 8)
}
DISTANCES = [
    ROOT["of 0 and 1"] + 3 + 5,
    ROOT["of 0 and 1"] + 1 + ROOT["of 1 and 3"],
    3 + 1 + ROOT["of 2 and 3"],
    5 + ROOT["of 1 and 3"] + ROOT["of 2 and 3"],
]


@pytest.mark.parametrize(
    ("criterion", "filters", "neurons"),
    [
        (L2Filter(), [25.0, 25.0, 16.0, 100.0], [25.0, 1.0, 9.0]),
        (FPGM(), DISTANCES, [26**0.5 + 34**0.5, 26**0.5 + 10**0.5, 34**0.5 + 10**0.5]),
        (BNScale(), [0.9, 0.1, 0.5, 0.2], [5 / 3, 1 / 3, 1.0]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_by_hand(criterion: OfUnits, filters: list[float], neurons: list[float]) -> None:
    scores = scores_of(criterion, hand_made())
    for name in ("0.bias", "1.weight", "1.bias"):
        torch.testing.assert_close(scores[name], torch.tensor(filters), check_dtype=False)
    assert scores["0.weight"].flatten(1).std(1).eq(0).all(), "all weights of a filter have its score"
    torch.testing.assert_close(scores["0.weight"].flatten(1)[:, 0], scores["0.bias"])
    torch.testing.assert_close(scores["4.bias"], torch.tensor(neurons), check_dtype=False)


@pytest.mark.parametrize(
    ("criterion", "kept"),
    [(L2Filter(), [0, 3]), (FPGM(), [2, 3]), (BNScale(), [0, 2])],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("selection", [Selection(), UNIT], ids=["weight", "unit"])
def test_whole_units_go_with_all_their_parts(
    criterion: OfUnits, kept: list[int], selection: Selection
) -> None:
    network = hand_made()
    plan = Plan(scope="layer")
    objective = Objective(inputs=(INPUT,))
    masks = prune(network, criterion, 0.5, selection=selection, plan=plan, objective=objective).masks
    for name in ("0.bias", "1.weight", "1.bias"):
        assert masks[name].nonzero().flatten().tolist() == kept
    assert torch.equal(masks["0.weight"].flatten(1).all(1), masks["0.bias"])
    assert int(masks["4.bias"].sum()) == 2
    assert "6.bias" not in masks or masks["6.bias"].all(), "the outputs of the network stay"


def test_units_that_are_gone_do_not_count_as_neighbours() -> None:
    network = hand_made()
    with torch.no_grad():
        network[0].weight[3] = 0
    found = scores_of(FPGM(), network)["0.bias"]
    expected = [3 + ROOT["of 0 and 1"], ROOT["of 0 and 1"] + 1, 4]
    torch.testing.assert_close(found[:3], torch.tensor(expected, dtype=torch.float64))


def test_the_norm_decides_between_the_last_two_units() -> None:
    network = hand_made()
    with torch.no_grad():
        network[0].weight[2:] = 0
        network[0].weight[1] *= 2
    assert scores_of(FPGM(), network)["0.bias"].tolist() == [5, 10, 0, 0]


def test_scales_compete_across_layers_as_they_are() -> None:
    """All filters with small scales go, wherever they are: six of eight in the second layer."""
    network = nn.Sequential(
        *(nn.Conv2d(1, 8, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)),
        *(nn.Flatten(), nn.Linear(16, 2)),
    )
    with torch.no_grad():
        network[1].weight.copy_(torch.tensor([0.9, 0.8, 0.7, 0.6, 0.55, 0.51, 0.01, 0.02]))
        network[3].weight.copy_(torch.tensor([0.9, 0.8, 0.3, 0.2, 0.1, 0.4, 0.01, 0.02]))
    plan = Plan(scope="global", normalize="none", unit_scores="mean")
    objective = Objective(inputs=(INPUT,))
    masks = prune(network, BNScale(), 0.5, selection=UNIT, plan=plan, objective=objective).masks
    assert [int(masks[name].sum()) for name in ("1.weight", "3.weight")] == [6, 2]


def test_scope_is_free_for_units_only() -> None:
    pruning = Pruning(BNScale(), 0.5, granularity="unit", scope="global")
    assert pruning.plan.scope == "global"
    with pytest.raises(BadRequest, match=r"^scope=global: "):
        Pruning(BNScale(), 0.5, scope="global")
    with pytest.raises(BadRequest, match=r"^scope=global: "):
        Pruning(L1Filter(), 0.5, granularity="unit", scope="global")
