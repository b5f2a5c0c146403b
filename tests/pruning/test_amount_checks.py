"""What ``prune`` refuses before it begins, and minimums that are kept."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from prunelit import BadRequest, L1Filter, Mag, Objective, Plan, Rand, Selection, prune
from prunelit.pruning.finite_scores import NonFiniteScores

IMAGES = torch.rand(2, 4)


def layers() -> nn.Sequential:
    """Two weights of 32 and 16 elements, and 8 hidden units."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))


def refusal(criterion: Any, density: Any, **options: Any) -> str:
    network = layers()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    with pytest.raises(BadRequest) as refused:
        prune(network, criterion, density, **options)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert "\n" not in str(refused.value)
    return str(refused.value)


DENSITIES = {"0.weight": 0.5, "2.weight": 0.5}


@pytest.mark.parametrize(
    ("plan", "named"),
    [
        (Plan(layer_densities=DENSITIES), "layer_densities is given too"),
        (Plan(threshold=0.1), "threshold=0.1 is given too"),
        (Plan(pattern="2:4"), "pattern=2:4 is given too"),
    ],
    ids=["layer_densities", "threshold", "pattern"],
)
def test_a_density_and_a_plan_that_decides_are_refused(plan: Plan, named: str) -> None:
    assert refusal(Mag(), 0.3, plan=plan).startswith(f"density=0.3: {named}")


@pytest.mark.parametrize(
    ("criterion", "density", "options", "line"),
    [
        ("mag", 0.5, {}, "criterion=mag: must be a criterion instance"),
        (Mag(), None, {}, "density=null: "),
        (Mag(), "a", {}, "density='a': must be a number from 0 to 1"),
        (Mag(), True, {}, "density=true: must be a number"),
        (Mag(), 0.5, {"plan": Selection()}, "plan=Selection("),
        (Mag(), 0.5, {"selection": Plan()}, "selection=Plan("),
        (Mag(), 0.5, {"objective": IMAGES[0, 0]}, "objective=0."),
        (Mag(), 0.5, {"seed": 1.5}, "seed=1.5: must be an integer"),
        (L1Filter(), None, {"plan": Plan(pattern="2:4")}, "pattern=2:4: whole filters are pruned"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(
    criterion: Any, density: Any, options: dict[str, Any], line: str
) -> None:
    assert refusal(criterion, density, **options).startswith(line)


def test_a_tensor_is_the_only_input_of_an_objective() -> None:
    masks = [
        prune(layers(), Mag(), 0.5, selection=Selection(granularity="unit"), objective=objective).masks
        for objective in (Objective(inputs=IMAGES), Objective(inputs=(IMAGES,)))
    ]
    assert all(torch.equal(masks[0][name], mask) for name, mask in masks[1].items())
    with pytest.raises(BadRequest, match=r"^inputs=int: must be a tuple"):
        Objective(inputs=3)  # type: ignore[arg-type]


def test_layer_densities_name_each_prunable_parameter_and_no_other() -> None:
    missing = refusal(Mag(), None, plan=Plan(layer_densities={"0.weight": 0.5}))
    assert missing.startswith("layer_densities={0.weight: 0.5}: 2.weight of Sequential has none; ")
    unknown = refusal(Mag(), None, plan=Plan(layer_densities={**DENSITIES, "x": 0.5}))
    assert unknown.startswith("layer_densities={x: 0.5}: there is no such parameter; ")
    with pytest.raises(BadRequest, match=r"^layer_densities=\{x: 2\}: must be densities from 0 to 1$"):
        Plan(layer_densities={"x": 2})
    # A parameter that is left dense may have a density.
    pruned = prune(
        layers(), Mag(), None, selection=Selection(exclude="2"), plan=Plan(layer_densities=DENSITIES)
    )
    assert {name: int(mask.sum()) for name, mask in pruned.masks.items()} == {"0.weight": 16}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_a_tensor_smaller_than_the_minimum_is_kept_whole(scope: Any) -> None:
    masks = prune(layers(), Mag(), 0.9, plan=Plan(keep_at_least=20, scope=scope)).masks
    assert int(masks["2.weight"].sum()) == 16
    assert int(masks["0.weight"].sum()) >= 20


@pytest.mark.parametrize("scope", ["global", "layer", "erk"])
def test_a_minimum_above_the_density_is_refused(scope: Any) -> None:
    """20 of the first tensor and 16 of the second are 36 of 48; half of them are 24, 12 of each."""
    line = refusal(Mag(), 0.5, plan=Plan(keep_at_least=20, scope=scope))
    assert line == (
        "keep_at_least=20: the minimum is 36 parameters in all, and a density of 0.5 keeps 24 of 48; "
        "must be at most 12, or the density at least 0.75"
    )
    for plan, density in ((Plan(keep_at_least=12), 0.5), (Plan(keep_at_least=20), 0.75)):
        masks = prune(layers(), Mag(), density, plan=plan).masks
        assert all(int(mask.sum()) >= min(plan.keep_at_least, mask.numel()) for mask in masks.values())
        assert sum(int(mask.sum()) for mask in masks.values()) == round(density * 48)


def test_a_minimum_of_units_above_the_density_is_refused() -> None:
    units = {"selection": Selection(granularity="unit"), "objective": Objective(inputs=IMAGES)}
    line = refusal(Mag(), 0.5, plan=Plan(keep_at_least=100), **units)
    assert line == (
        "keep_at_least=100: the minimum is 8 units in all, and a density of 0.5 keeps 4 of 8; "
        "must be at most 4, or the density at least 1"
    )
    masks = prune(layers(), Mag(), 0.5, plan=Plan(keep_at_least=4), **units).masks  # type: ignore[arg-type]
    assert int(masks["0.weight"].any(1).sum()) == 4


def test_a_threshold_applies_to_whole_units() -> None:
    """Scores of units are divided by their mean: those above it are kept."""
    network = layers()
    parts = network[0].weight.abs().sum(1) + network[0].bias.abs() + network[2].weight.abs().sum(0)
    units = {"selection": Selection(granularity="unit"), "objective": Objective(inputs=IMAGES)}
    masks = prune(network, Mag(), None, plan=Plan(threshold=1.0), **units).masks  # type: ignore[arg-type]
    assert torch.equal(masks["0.weight"].any(1), parts >= parts.mean())


@pytest.mark.parametrize("criterion", [Mag(), Rand()])
def test_weights_that_are_not_finite_are_refused(criterion: Any) -> None:
    network = layers()
    network[0].weight.data[0, 0] = torch.nan
    with pytest.raises(NonFiniteScores, match=r"of layer 0\.weight are not finite"):
        prune(network, criterion, 0.5)
