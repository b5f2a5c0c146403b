"""A budget of latency is met by predictions from a table of layers, and by measurements of cut copies."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch
from torch import nn

from couplings import Grouped, Residual, settled
from prunelit import BadRequest, Budget, Mag, Objective, Plan, compact, coupled_units, prune
from prunelit.pruning.call import Call
from prunelit.pruning.coupling import latency_costs
from prunelit.pruning.coupling.latency_costs import LatencyCosts
from prunelit.pruning.coupling.latency_table import LayerTimes, layer_times, milliseconds

IMAGES = torch.rand(2, 3, 8, 8)


def by_size(function: Callable[[], Any], _: float) -> float:
    """Stand for a device on which each parameter takes a microsecond."""
    owner = function.func if isinstance(function.func, nn.Module) else function.args[0]
    function()
    return sum(p.numel() for p in owner.parameters()) / 1000


def test_the_median_of_calls_is_taken_until_the_time_is_over() -> None:
    ticks = iter([0, 5, 5, 6, 6, 8, 8, 9])  # calls of 5, 1 and 2 seconds
    assert milliseconds(lambda: None, 1.0, clock=partial(next, ticks)) == 2000
    assert milliseconds(lambda: None, 1e9, clock=partial(next, count())) == 1000


def test_times_between_widths_are_linear_and_beyond_them_constant() -> None:
    times = LayerTimes((1, 5), (2, 4), ((1.0, 3.0), (5.0, 11.0)), calls=2)
    assert times.at(1, 2) == 2
    assert times.at(5, 4) == times.at(9, 9) == 22
    assert times.at(3, 3) == 2 * (1 + 3 + 5 + 11) / 4
    assert LayerTimes((3,), (7,), ((4.0,),)).at(2, 1) == 4


def test_a_wider_layer_is_never_predicted_to_be_faster() -> None:
    times = LayerTimes((1, 2, 3), (1, 2), ((1.0, 0.5), (4.0, 3.0), (2.0, 9.0))).never_faster_when_wider()
    assert times.times == ((1, 1), (4, 4), (4, 9))


@pytest.mark.parametrize("kind", [Residual, Grouped])
def test_layers_are_timed_once_at_widths_that_they_can_have(kind: type[nn.Module]) -> None:
    network = settled(kind)
    coupled = coupled_units(network, IMAGES)
    costs = LatencyCosts(network, coupled, Call.of(IMAGES), by_size)
    weights = [n for n, m in network.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert set(costs.table) == {f"{name}.weight" for name in weights}
    assert costs.of({}) == pytest.approx(costs.dense) == sum(p.numel() for p in network.parameters()) / 1000
    kept = {group.name: torch.arange(group.units) % 2 == 0 for group in coupled.prunable}
    assert 0.2 < costs.predicted(kept) / costs.dense < 0.6
    small = costs.cut_copy(kept)
    assert costs.measure(kept) == sum(p.numel() for p in small.parameters()) / 1000
    assert costs.of({n: int(m.sum()) for n, m in kept.items()}) == pytest.approx(costs.measure(kept))


def test_layers_that_are_alike_are_timed_once() -> None:
    timed = []

    def timer(function: Any, seconds: float) -> float:
        timed.append(function)
        return 1.0

    network = nn.Sequential(*(nn.Linear(8, 8) for _ in range(5)))
    found = layer_times(network, Call.of(torch.rand(2, 8)), {("0.weight", 0)}, timer)
    assert len(found) == 5
    assert len(timed) == len(found["0.weight"].first) + 1 == 6


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_a_budget_of_latency_is_met_and_says_what_was_predicted_and_measured(
    scope: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_costs, "milliseconds", by_size)
    network = settled(Residual)
    dense = sum(p.numel() for p in network.parameters()) / 1000
    plan, objective = Plan(scope=scope, rounds=2), Objective(inputs=(IMAGES,))
    found = prune(network, Mag(), Budget.of_latency(dense / 2), plan=plan, objective=objective).latency
    small = compact(network, IMAGES)
    assert found is not None
    assert found.dense == dense
    assert found.measured == sum(p.numel() for p in small.parameters()) / 1000
    assert 0.5 * dense / 2 < found.measured <= dense / 2
    assert found.predicted == pytest.approx(found.measured, rel=0.5)


def test_what_really_runs_is_measured() -> None:
    network, objective = settled(Residual), Objective(inputs=(IMAGES,))
    found = prune(network, Mag(), Budget.of_latency(1e6), objective=objective).latency
    assert found is not None
    assert found.measured == found.dense > 0
    assert compact(network, IMAGES).stem.out_channels == network.stem.out_channels


def test_too_little_time_is_refused_with_what_has_to_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_costs, "milliseconds", by_size)
    with pytest.raises(BadRequest, match=r"^latency=1e-06: .* ms\b"):
        prune(settled(Residual), Mag(), Budget.of_latency(1e-6), objective=Objective(inputs=(IMAGES,)))


def test_a_network_without_layers_to_time_is_refused() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Parameter(torch.rand(4, 3)), nn.Parameter(torch.rand(2, 4))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(nn.functional.linear(x, self.first).relu(), self.last)

    inputs = (torch.rand(2, 3),)
    with pytest.raises(BadRequest, match=r"^latency=.*\bBare\b"):
        prune(Bare(), Mag(), Budget.of_latency(1), objective=Objective(inputs=inputs))
