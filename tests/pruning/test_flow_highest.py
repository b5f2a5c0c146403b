"""Rounds that only mark the highest scores keep what rounds that compute all scores keep."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import flow_highest, scored_layers
from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.criteria import synflow as synflow_module
from prunelit.pruning.masks import Masks, Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune


class Residual(nn.Module):
    """Strides, BatchNorm, residual sums, a layer that is used twice, pooling and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.down = nn.Conv2d(24, 24, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(24)
        self.bn.running_var.uniform_(0.5, 2)
        self.fc = nn.Linear(24 * 16, 160)
        self.out = nn.Linear(160, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(self.bn(self.down(x))) + F.avg_pool2d(x, 2)
        x = x + self.down(x).repeat_interleave(2, 2).repeat_interleave(2, 3)
        return self.out(F.gelu(self.fc(F.adaptive_avg_pool2d(x, 4).flatten(1))))


class Counted(SynFlow):
    """Counts the rounds whose scores were computed, and those whose highest scores were marked."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.marked = self.computed = 0

    def highest(self, *args: Any) -> Masks | None:
        found = super().highest(*args)
        self.marked += found is not None
        return found

    def scores_again(self, *args: Any) -> Scores:
        self.computed += 1
        return super().scores_again(*args)


def both_ways(
    network: nn.Module, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch, **options: Any
) -> tuple[Counted, dict[bool, Masks]]:
    """Prune copies of ``network`` in 12 rounds, all of which compute all scores, or only the last."""
    monkeypatch.setattr(flow_highest, "FEWEST", 1)
    monkeypatch.setattr(scored_layers, "ROWS", 1000)
    monkeypatch.setattr(flow_highest, "ROWS", 1000)
    objective = Objective(inputs=(torch.ones(2, *shape),))
    found, criterion = {}, Counted()
    for is_fast in (False, True):
        with monkeypatch.context() as patch:
            if not is_fast:
                patch.setattr(synflow_module, "highest_of_flow", lambda *args: None)
            plan = Plan(rounds=12, **options)
            pruned = prune(
                copy.deepcopy(network),
                criterion if is_fast else SynFlow(),
                0.05,
                plan=plan,
                objective=objective,
            )
        found[is_fast] = pruned.masks
    return criterion, found


def assert_same(found: dict[bool, Masks]) -> None:
    assert found[True].keys() == found[False].keys()
    for name, mask in found[True].items():
        assert torch.equal(mask, found[False][name]), name


@pytest.mark.parametrize("rounding", ["nearest", "up"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_masks_are_those_of_float64_scores(
    rounding: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(1)
    criterion, found = both_ways(Residual().to(dtype), (3, 16, 16), monkeypatch, rounding=rounding)
    assert criterion.marked == 11
    assert_same(found)


def test_a_deep_network_whose_scores_leave_the_range_of_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for place in range(30):
        layers += [nn.Linear(40, 40, bias=False), nn.ReLU()]
        nn.init.normal_(layers[-2].weight, std=1e-6 if place % 2 else 1e-3)
    criterion, found = both_ways(nn.Sequential(*layers), (40,), monkeypatch)
    assert criterion.marked == 11
    assert_same(found)


def test_weights_beyond_what_float32_compares_have_their_scores_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    network[0].weight.data[0] *= 1e30
    criterion, found = both_ways(network, (100,), monkeypatch)
    assert criterion.marked == 0
    assert_same(found)


@pytest.mark.parametrize("case", ["equal", "grouped", "bias", "own"])
def test_all_scores_are_computed_where_the_highest_are_unclear(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10))
    if case == "equal":
        nn.init.constant_(network[0].weight, 0.1)
        nn.init.constant_(network[3].weight, 0.1)
    elif case == "grouped":
        network[0] = nn.Conv2d(8, 64, 3, padding=1, groups=8)
    monkeypatch.setattr(flow_highest, "FEWEST", 1)
    criterion: SynFlow = Counted()
    if case == "own":

        class Own(Counted):
            def scores(self, *args: Any) -> Scores:
                return super().scores(*args)

        criterion = Own()
    outcome = prune(
        network,
        criterion,
        0.3,
        selection=Selection(bias=case == "bias"),
        plan=Plan(rounds=3),
        objective=Objective(inputs=(torch.ones(1, 8, 4, 4),)),
    )
    assert isinstance(criterion, Counted)
    assert criterion.marked == 0
    assert criterion.computed == 2
    assert len(outcome.densities) == 3


def test_products_of_less_precision_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 10))
    original = torch.mm

    def rounded(a: Tensor, b: Tensor, **kwargs: Any) -> Tensor:
        return (
            original(a.bfloat16().float(), b, **kwargs)
            if a.dtype == torch.float32
            else original(a, b, **kwargs)
        )

    monkeypatch.setattr(flow_highest.torch, "mm", rounded)
    criterion, found = both_ways(network, (300,), monkeypatch)
    assert criterion.marked < 11
    assert_same(found)
