"""Rounds that only mark the highest scores keep what rounds that compute all scores keep."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import flow_highest, loops, scored_layers
from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import Masks, Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune


@pytest.fixture(autouse=True, params=["loop", "operations"])
def in_both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare scores by a compiled loop, and as where there was no compiler."""
    if request.param == "operations":
        monkeypatch.setattr(loops, "available", lambda: False)
    elif not loops.available():
        pytest.skip("the loops are not compiled")


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

    def keep_highest(self, *args: Any) -> tuple[Masks, int]:
        masks, done = super().keep_highest(*args)
        self.marked += done
        return masks, done

    def scores_again(self, *args: Any) -> Scores:
        self.computed += 1
        return super().scores_again(*args)


def both_ways(
    network: nn.Module,
    shape: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch,
    rounds: int = 12,
    **options: Any,
) -> tuple[Counted, dict[bool, Masks]]:
    """Prune copies of ``network`` in several rounds, all of which compute all scores, or only the last."""
    monkeypatch.setattr(flow_highest, "FEWEST", 1)
    monkeypatch.setattr(scored_layers, "PART", 1000)
    objective = Objective(inputs=(torch.ones(2, *shape),))
    found, criterion = {}, Counted()
    for is_fast in (False, True):
        with monkeypatch.context() as patch:
            if not is_fast:
                patch.setattr(SynFlow, "keep_highest", Criterion.keep_highest)
            plan = Plan(rounds=rounds, **options)
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


def test_weights_of_very_different_size(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(100, 100), nn.ReLU(), nn.Linear(100, 10))
    network[0].weight.data[0] *= 1e30
    criterion, found = both_ways(network, (100,), monkeypatch)
    assert criterion.marked == 11
    assert_same(found)


def test_groups_of_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(8, 64, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2d(64, 64, 3, groups=64),
        nn.Flatten(),
        nn.Linear(64 * 16, 40),
    )
    criterion, found = both_ways(network, (8, 6, 6), monkeypatch)
    assert criterion.marked == 11
    assert_same(found)


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_a_threshold_that_is_not_where_it_was_expected(
    factor: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    expected = flow_highest._Thresholds.next_between
    rounds = []

    def wrong(self: Any) -> tuple[float, float] | None:
        found = expected(self)
        if found is None:
            return None
        rounds.append(found)
        return found if len(rounds) < 3 else (found[0] * factor, found[1] * factor)

    monkeypatch.setattr(flow_highest._Thresholds, "next_between", wrong)
    criterion, found = both_ways(Residual(), (3, 16, 16), monkeypatch, rounds=40)
    assert len(rounds) >= 3
    assert criterion.marked == 39
    assert_same(found)


def test_rounds_before_one_that_is_unclear_are_done(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 10))
    with torch.no_grad():  # two halves of the hidden units are alike
        network[0].weight[20:] = network[0].weight[:20]
        network[2].weight[:, 20:] = network[2].weight[:, :20]
    criterion, found = both_ways(network, (40,), monkeypatch)
    assert 0 < criterion.marked < 11
    assert_same(found)


@pytest.mark.parametrize("case", ["equal", "bias", "own"])
def test_all_scores_are_computed_where_the_highest_are_unclear(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64 * 16, 10))
    if case == "equal":
        nn.init.constant_(network[0].weight, 0.1)
        nn.init.constant_(network[3].weight, 0.1)
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
