"""What holds for every criterion: a new one is tested by being there, in ``prunelit.pruning.criteria``."""

from __future__ import annotations

import copy
import inspect
import random
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prunelit.pruning import criteria
from prunelit.pruning.criteria import Criterion
from prunelit.pruning.masks import Masks, Scores, attached, count_all, count_kept, full_masks
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.preserve import random_state
from prunelit.pruning.rounds import prune
from prunelit.pruning.ties import UndecidedScores

CRITERIA: list[type[Criterion]] = [
    found
    for _, found in inspect.getmembers(criteria, inspect.isclass)
    if issubclass(found, Criterion) and not inspect.isabstract(found)
]
WHOLE = Selection(bias=True, norm=True)


def test_the_criteria_are_found() -> None:
    assert {"GraSP", "Mag", "Rand", "SNIP", "SynFlow"} <= {found.__name__ for found in CRITERIA}


KINDS = ("images", "tied", "unused", "sparse")
Case = tuple[nn.Module, Objective]
Make = Callable[..., Case]


def kinds(function: Callable[..., None]) -> Callable[..., None]:
    """Every criterion on every kind of network; the slowest on the largest of them in the slow tests."""
    pairs = [(found, kind, f"{found.__name__}-{kind}") for kind in KINDS for found in CRITERIA]
    slow = {"Exact-images": [pytest.mark.slow]}
    cases = [pytest.param(found(), kind, id=name, marks=slow.get(name, ())) for found, kind, name in pairs]
    return pytest.mark.parametrize(("criterion", "kind"), cases)(function)


def every(function: Callable[..., None]) -> Callable[..., None]:
    return pytest.mark.parametrize(
        "criterion", [found() for found in CRITERIA], ids=lambda c: type(c).__name__
    )(function)


def check_counts(
    criterion: Criterion, network: nn.Module, objective: Objective, masks: Masks, density: float
) -> None:
    """Exactly the right number is kept: of all weights, or of each layer's units, which go as wholes."""
    if criterion.unit == "weight":
        assert count_kept(masks) == round(density * count_all(masks))
        return
    groups = criterion.groups(network, {n: network.get_parameter(n) for n in masks}, objective)
    assert groups is not None
    kept = groups.alive(masks)
    for name, mask in kept.items():
        assert int(mask.sum()) == round(density * mask.numel()), name
    assert equal(masks, groups.spread(kept, full_masks(masks)))


def follow(objective: Objective, network: nn.Module) -> Objective:
    """The same batches for another network."""
    return Objective.of_classifier(network, objective.batches)


def only_shrinks(later: Masks, earlier: Masks) -> bool:
    return list(later) == list(earlier) and all(not (later[n] & ~earlier[n]).any() for n in later)


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return list(first) == list(second) and all(torch.equal(first[name], second[name]) for name in first)


@kinds
@pytest.mark.parametrize(
    ("selection", "dtype"),
    [
        (Selection(), torch.float32),
        (WHOLE, torch.float64),
        (WHOLE, torch.bfloat16),
    ],
    ids=str,
)
def test_one_finite_score_a_parameter(
    criterion: Criterion, kind: str, selection: Selection, dtype: torch.dtype, make: Make
) -> None:
    network, objective = make(kind, dtype)
    for parameter in network.parameters():
        parameter.requires_grad_()
    parameters = selection.of(network)
    scores = criterion.scores(network, parameters, objective)
    assert list(scores) == list(parameters)
    for name, score in scores.items():
        assert score.shape == parameters[name].shape, name
        assert score.device == parameters[name].device, name
        assert score.is_floating_point(), name
        assert torch.isfinite(score).all(), name
        assert not score.requires_grad, name


@kinds
def test_one_seed_gives_one_result(criterion: Criterion, kind: str, make: Make) -> None:
    outcomes = []
    for elsewhere in (1, 2):
        network, objective = make(kind)
        torch.manual_seed(elsewhere)
        np.random.seed(elsewhere)
        random.seed(elsewhere)
        outcomes.append(prune(network, criterion, 0.2, plan=Plan(rounds=3), objective=objective, seed=5))
    assert equal(outcomes[0].masks, outcomes[1].masks)
    assert equal(outcomes[0].scores, outcomes[1].scores)


class State:
    """All that ``prune`` promises to leave alone, but for the pruned weights."""

    def __init__(self, network: nn.Module) -> None:
        self.tensors = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        self.gradients = [(p.grad, None if p.grad is None else p.grad.clone()) for p in network.parameters()]
        self.needs = [p.requires_grad for p in network.parameters()]
        self.modes = [module.training for module in network.modules()]
        self.random: tuple[Any, ...] = (random.getstate(), np.random.get_state()[1].tolist())
        self.torch = torch.get_rng_state()

    def check(self, network: nn.Module, masks: Masks) -> None:
        by_object = {id(network.get_parameter(name)): mask for name, mask in masks.items()}
        for name, tensor in network.state_dict(keep_vars=True).items():
            expected = self.tensors[name] * by_object.get(id(tensor), 1)
            assert torch.equal(tensor, expected), name
        for parameter, (gradient, value) in zip(network.parameters(), self.gradients, strict=True):
            assert parameter.grad is gradient
            assert gradient is None or torch.equal(gradient, value)
        assert [p.requires_grad for p in network.parameters()] == self.needs
        assert [module.training for module in network.modules()] == self.modes
        assert (random.getstate(), np.random.get_state()[1].tolist()) == self.random
        assert torch.equal(torch.get_rng_state(), self.torch)


def lived_in(make: Make, kind: str) -> tuple[nn.Module, Objective]:
    """A network with gradients, mixed modes and statistics of its own."""
    network, objective = make(kind)
    objective.loss(objective.batches[0]).backward()
    next(network.children()).eval()
    return network, objective


@kinds
@pytest.mark.parametrize("train_mode", [False, True])
def test_nothing_but_the_pruned_weights_changes(
    criterion: Criterion, kind: str, train_mode: bool, make: Make
) -> None:
    network, objective = lived_in(make, kind)
    before = State(network)
    plan = Plan(rounds=2, train_mode=train_mode)
    outcome = prune(network, criterion, 0.3, plan=plan, objective=objective)
    before.check(network, outcome.masks)
    check_counts(criterion, network, objective, outcome.masks, 0.3)


@kinds
def test_everything_is_restored_when_the_criterion_raises(
    criterion: Criterion, kind: str, make: Make
) -> None:
    class Failing(type(criterion)):  # type: ignore[misc]
        rounds = 0

        def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
            super().scores(network, parameters, objective)
            self.rounds += 1
            if self.rounds < 2:
                return {name: p.detach().double().abs() for name, p in parameters.items()}
            network.train(not network.training)
            torch.rand(3), np.random.rand(), random.random()
            for tensor in network.state_dict().values():
                tensor.add_(1)
            for parameter in network.parameters():
                parameter.grad = torch.ones_like(parameter)
            raise RuntimeError("out of paper")

    network, objective = lived_in(make, kind)
    before = State(network)
    with pytest.raises(RuntimeError, match="out of paper"):
        prune(network, Failing(), 0.3, plan=Plan(rounds=4), objective=objective)
    before.check(network, {})
    assert attached(network) is None


@pytest.mark.parametrize(
    "criterion", [found() for found in CRITERIA if found.unit == "weight"], ids=lambda c: type(c).__name__
)
def test_exact_counts_at_compressions_0_to_4(criterion: Criterion, make: Make) -> None:
    network, objective = make("large")
    scores = prune(network, criterion, 1.0, objective=objective).scores
    assert count_all(scores) == 33_012

    class Scored(Criterion):
        observes = criterion.observes

        def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
            return scores

    for step in range(81):
        density = 10 ** -(0.05 * step)
        twin = copy.deepcopy(network)
        masks = prune(twin, Scored(), density).masks
        assert count_kept(masks) == round(density * 33_012), step
        zeros = sum(int((p == 0).sum()) for p in Selection().of(twin).values())
        assert zeros == 33_012 - round(density * 33_012)


@every
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_where_all_weights_are_zero_no_score_decides(criterion: Criterion, scope: str, make: Make) -> None:
    network, objective = make("unused")
    for parameter in network.parameters():
        parameter.data.zero_()
    name = type(criterion).__name__
    if name in ("Rand", "ThiNet", "Karnin"):  # random numbers, places in an order, no training seen
        masks = prune(network, criterion, 0.125, plan=Plan(3, scope=scope), objective=objective).masks
        check_counts(criterion, network, objective, masks, 0.125)
        return
    with pytest.raises(UndecidedScores, match=f"all scores of {name} that compete are equal") as caught:
        prune(network, criterion, 0.125, plan=Plan(3, scope=scope), objective=objective)
    assert "train first" in str(caught.value)
    assert attached(network) is None


@kinds
@pytest.mark.parametrize("scope", ["global", "layer"])
def test_masks_shrink_round_by_round(criterion: Criterion, kind: str, scope: str, make: Make) -> None:
    class Watched(type(criterion)):  # type: ignore[misc]
        def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
            alive.append({name: p.detach() != 0 for name, p in parameters.items()})
            return super().scores(network, parameters, objective)

    alive: list[Masks] = []
    network, objective = make(kind)
    outcome = prune(network, Watched(), 0.05, plan=Plan(rounds=4, scope=scope), objective=objective)
    assert len(alive) == len(outcome.densities) == 4
    held = [*alive, {name: network.get_parameter(name) != 0 for name in outcome.masks}]
    assert all(only_shrinks(later, earlier) for earlier, later in pairwise(held))
    assert only_shrinks(held[-1], outcome.masks)
    assert outcome.densities == sorted(outcome.densities, reverse=True)


@kinds
def test_a_second_pruning_only_shrinks_copies_too(criterion: Criterion, kind: str, make: Make) -> None:
    network, objective = make(kind)
    first = prune(network, criterion, 0.3, plan=Plan(rounds=2), objective=objective).masks
    twin = copy.deepcopy(network)
    for again in (network, twin):
        second = prune(again, criterion, 0.1, objective=follow(objective, again), seed=1).masks
        assert only_shrinks(second, first)
        check_counts(criterion, again, follow(objective, again), second, 0.1)
        third = prune(again, criterion, 0.9, objective=follow(objective, again), seed=2).masks
        assert equal(third, second)


@kinds
def test_scores_do_not_depend_on_what_was_computed_before(
    criterion: Criterion, kind: str, make: Make
) -> None:
    network, objective = make(kind)
    for parameter in network.parameters():
        parameter.requires_grad_()
    network.eval()
    parameters = Selection().of(network)
    found = []
    for _ in range(2):
        with random_state(3):
            found.append(criterion.scores(network, parameters, objective))
    assert equal(found[0], found[1])


@every
def test_what_it_needs_is_stated(criterion: Criterion, make: Make) -> None:
    network, objective = make("images")
    assert criterion.needs in ("nothing", "example", "batches")
    if criterion.needs == "nothing":
        prune(network, criterion, 0.5)
    elif criterion.needs == "example":
        prune(network, criterion, 0.5, objective=Objective(objective.loss, [], objective.inputs))
    else:
        prune(network, criterion, 0.5, objective=Objective(objective.loss, objective.batches, ()))
    if criterion.needs != "nothing":
        with pytest.raises(ValueError, match=type(criterion).__name__):
            prune(network, criterion, 0.5)
