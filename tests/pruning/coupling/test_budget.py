"""A budget of multiply-accumulates or parameters is met from below, to within the cheapest unit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from couplings import Dense, Residual
from prunelit import BadRequest, Budget, L1Filter, Mag, Objective, Plan, Rand, compact, prune
from prunelit.pruning.coupling.within_budget import BudgetTooSmall
from prunelit.pruning.flops import count_flops

IMAGES = torch.rand(2, 3, 11, 11)


class Wide(nn.Module):
    """Two convolutions of 40 and 24 filters, normalised, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 40, 3), nn.BatchNorm2d(40)
        self.second, self.fc = nn.Conv2d(40, 24, 3), nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.first(x)).relu()
        return self.fc(self.second(x).relu().mean((2, 3)))


def cost(network: nn.Module, quantity: str) -> int:
    if quantity == "flops":
        return count_flops(network, IMAGES[:1]).total
    return sum(p.numel() for p in network.parameters())


def widths(network: nn.Module) -> dict[str, int]:
    return {name: len(p) for name, p in network.named_parameters()}


def cut(network: nn.Module, budget: Budget, criterion: object = None, **plan: object) -> nn.Module:
    objective = Objective(inputs=(IMAGES,))
    prune(network, criterion or Mag(), budget, plan=Plan(**plan), objective=objective)
    return compact(network, IMAGES)


@pytest.mark.parametrize("quantity", ["flops", "params"])
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_it_is_met_to_within_the_unit_that_costs_least(quantity: str, scope: str) -> None:
    torch.manual_seed(0)
    network = Wide()
    limit = 0.5 * cost(network, quantity)
    small = cut(copy.deepcopy(network), Budget(quantity, 0.5), scope=scope)
    assert cost(small, quantity) <= limit
    first, second = len(small.first.weight), len(small.second.weight)
    more = []
    for wider in ((first + 1, second), (first, second + 1)):
        built = Wide()
        built.first, built.norm = nn.Conv2d(3, wider[0], 3), nn.BatchNorm2d(wider[0])
        built.second, built.fc = nn.Conv2d(*wider, 3), nn.Linear(wider[1], 5)
        more.append(cost(built, quantity))
    assert min(more) > limit, "one more unit of the cheapest group would fit"


@pytest.mark.parametrize("kind", [Residual, Dense])
@pytest.mark.parametrize("criterion", [L1Filter(), Rand()])
def test_layers_that_have_to_fit_each_other_meet_it_too(kind: type[nn.Module], criterion: object) -> None:
    torch.manual_seed(0)
    network, images = kind().eval(), torch.rand(2, 3, 8, 8)
    objective = Objective(inputs=(images,))
    dense = count_flops(network, images[:1]).total
    prune(network, criterion, Budget("flops", 0.6), objective=objective)
    small = compact(network, images)
    assert 0.35 < count_flops(small, images[:1]).total / dense <= 0.6
    torch.testing.assert_close(small(images), network(images), rtol=1e-4, atol=1e-5)


def test_rounds_and_multiples_of_eight_end_within_it() -> None:
    torch.manual_seed(0)
    network = Wide()
    dense = cost(network, "flops")
    small = cut(network, Budget("flops", 0.5), rounds=3, round_to=8)
    assert cost(small, "flops") <= 0.5 * dense
    assert {len(small.first.weight) % 8, len(small.second.weight) % 8} == {0}


def test_a_second_pruning_counts_from_the_dense_network() -> None:
    torch.manual_seed(0)
    network = Wide()
    dense = cost(network, "params")
    cut(network, Budget("params", 0.6))
    assert cost(cut(network, Budget("params", 0.3)), "params") <= 0.3 * dense


def test_a_budget_below_the_smallest_network_is_refused_with_the_least_that_can_be_had() -> None:
    network = Wide()
    before = widths(network)
    with pytest.raises(BudgetTooSmall) as error:
        cut(network, Budget("flops", 1e-6, "flops", 1e-6))
    assert (error.value.key, error.value.value) == ("flops", 1e-6)
    least = float(error.value.allowed.rpartition(" ")[2])
    assert widths(network) == before
    assert cost(cut(network, Budget("flops", least + 1e-4)), "flops") > 0


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Budget("speedup", 2.0), "quantity=speedup"),  # type: ignore[arg-type]
        (lambda: Budget("flops", 0.0), "share=0"),
        (lambda: Budget("flops", 2.0), "share=2"),
        (lambda: Budget("params", float("nan")), "share=nan"),
        (lambda: Budget.of_speedup(0.5), "speedup=0.5"),
        (lambda: Budget.of_latency("fast"), "latency=fast"),
    ],
)
def test_a_wrong_budget_is_refused_when_it_is_made(make: Callable[[], Budget], key: str) -> None:
    with pytest.raises(BadRequest, match=f"^{key}"):
        make()


def test_a_speedup_is_a_share_of_the_multiply_accumulates() -> None:
    assert Budget.of_speedup(4) == Budget("flops", 0.25, "speedup", 4)
