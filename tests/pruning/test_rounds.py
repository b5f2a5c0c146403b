"""The loop over rounds: what ``prune`` does to a network and what it leaves alone."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from prunelit.pruning.amount_checks import check_density
from prunelit.pruning.criteria import SNIP, Criterion, GraSP, Mag, Rand, SynFlow
from prunelit.pruning.earlier_masks import starting_masks
from prunelit.pruning.finite_scores import NonFiniteScores
from prunelit.pruning.masks import Scores, attached, count_kept
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest
from watched_pruning import Watched, assert_pruned, mlp, same, values


class Broken(Mag):
    """Magnitude, but one score of ``layer`` is ``value`` from round ``round`` on."""

    def __init__(self, layer: str, value: float, round: int = 1) -> None:
        self.layer, self.value, self.left = layer, value, round

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        self.left -= 1
        scores = {
            name: score.clone() for name, score in super().scores(network, parameters, objective).items()
        }
        if self.left < 1:
            scores[self.layer].view(-1)[1] = self.value
        return scores


def test_prune_by_hand() -> None:
    network = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 1))
    network[0].weight.data = torch.tensor([[0.1, -0.6], [0.2, 0.5]])
    network[1].weight.data = torch.tensor([[-0.4, 0.3]])
    outcome = prune(network, Mag(), 0.5)
    assert outcome.masks["0.weight"].tolist() == [[False, True], [False, True]]
    assert outcome.masks["1.weight"].tolist() == [[True, False]]
    torch.testing.assert_close(network[0].weight.data, torch.tensor([[0, -0.6], [0, 0.5]]), rtol=0, atol=0)
    torch.testing.assert_close(network[1].weight.data, torch.tensor([[-0.4, 0]]), rtol=0, atol=0)
    assert outcome.densities == [0.5]
    torch.testing.assert_close(outcome.scores["1.weight"], torch.tensor([[0.4, 0.3]]))


@pytest.mark.parametrize(
    ("schedule", "counts"),
    [
        # 800 weights down to 50 in four rounds: halved each time; 187.5 less each time (612.5 and
        # 237.5 round to the even number); 50 + 750 (1 - r/4)^3.
        ("exponential", [400, 200, 100, 50]),
        ("linear", [612, 425, 238, 50]),
        ("cubic", [366, 144, 62, 50]),
    ],
)
def test_rounds_follow_the_schedule(schedule: str, counts: list[int]) -> None:
    criterion = Watched()
    network = mlp(20, 20, 20)
    before = values(network)
    outcome = prune(network, criterion, 1 / 16, plan=Plan(rounds=4, schedule=schedule))
    assert [round(d * 800) for d in outcome.densities] == counts
    seen = [sum(int(kept.sum()) for kept in masks.values()) for masks in criterion.kept]
    assert seen == [800, *counts[:-1]]  # every round scores the network as the last one left it
    for earlier, later in zip(criterion.kept, [*criterion.kept[1:], outcome.masks], strict=True):
        assert all(not (later[name] & ~earlier[name]).any() for name in later)
    assert_pruned(network, outcome.masks, before)


def test_rounds_change_the_masks_of_a_criterion_that_looks_at_the_network(
    example: Callable[..., Objective],
) -> None:
    one, many = mlp(20, 40, 20, 10), mlp(20, 40, 20, 10)
    first = prune(one, SynFlow(), 0.05, objective=example(1, 20))
    second = prune(many, SynFlow(), 0.05, plan=Plan(rounds=20), objective=example(1, 20))
    assert count_kept(first.masks) == count_kept(second.masks) == 90
    assert any(not torch.equal(first.masks[name], second.masks[name]) for name in first.masks)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("round", [1, 3])
def test_scores_that_are_not_finite_name_the_layer_and_leave_the_network(value: float, round: int) -> None:
    network = mlp(6, 6, 6)
    before, random = values(network), torch.get_rng_state()
    with pytest.raises(NonFiniteScores, match=r"2\.weight"):
        prune(network, Broken("2.weight", value, round), 0.1, plan=Plan(rounds=4))
    assert same(network, before)
    assert torch.equal(torch.get_rng_state(), random)
    assert attached(network) is None
    assert network.training


@pytest.mark.parametrize("criterion", [SNIP(), GraSP()])
def test_a_loss_that_is_not_finite_names_the_layer(criterion: Criterion) -> None:
    network = mlp(4, 5, 3)
    batch = (torch.full((2, 4), float("nan")), torch.tensor([0, 1]))
    with pytest.raises(NonFiniteScores, match=r"0\.weight"):
        prune(network, criterion, 0.5, objective=Objective.of_classifier(network, [batch]))


def test_a_network_pruned_before_only_shrinks() -> None:
    network = mlp(10, 30, 20)
    first = prune(network, Mag(), 0.4).masks
    nn.init.normal_(network[0].weight)  # even where something filled the holes
    second = prune(network, Rand(), 0.2, plan=Plan(rounds=3)).masks
    assert count_kept(second) == 180
    assert all(not (second[name] & ~first[name]).any() for name in first)
    twin = copy.deepcopy(network)
    third = prune(twin, Rand(), 0.1, plan=Plan(rounds=2, schedule="linear"), seed=9)
    assert third.densities == pytest.approx([0.15, 0.1])  # from where the second ended
    assert all(not (third.masks[name] & ~second[name]).any() for name in first)
    assert all(torch.equal(attached(network)[name], second[name]) for name in second)


@pytest.mark.parametrize("density", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("rounds", [1, 5])
def test_pruning_to_the_density_there_is_or_a_higher_one_changes_nothing(density: float, rounds: int) -> None:
    network = mlp(8, 8, 8)
    first = prune(network, Mag(), 0.25).masks
    before = values(network)
    outcome = prune(network, Rand(), density, plan=Plan(rounds=rounds))
    assert all(torch.equal(outcome.masks[name], first[name]) for name in first)
    assert outcome.densities == [0.25]
    assert same(network, before)


@pytest.mark.parametrize("reinitialize", [False, True])
def test_masks_outside_the_selection_are_kept(reinitialize: bool) -> None:
    network = mlp(10, 10, 10, 10)
    first = prune(network, Mag(), 0.4, selection=Selection(exclude=("4",))).masks
    second = prune(
        network, Mag(), 0.2, selection=Selection(exclude=("0",)), plan=Plan(reinitialize=reinitialize)
    ).masks
    assert list(second) == ["2.weight", "4.weight"]
    assert not (second["2.weight"] & ~first["2.weight"]).any()
    assert (network[0].weight[~first["0.weight"]] == 0).all()
    noted = attached(network)
    assert sorted(noted) == ["0.weight", "2.weight", "4.weight"]
    assert torch.equal(noted["0.weight"], first["0.weight"])
    third = prune(network, Mag(), 0.05).masks
    assert count_kept(third) == 15
    assert not (third["0.weight"] & ~first["0.weight"]).any()
    assert not (third["4.weight"] & ~second["4.weight"]).any()


def test_a_layer_that_was_replaced_starts_whole() -> None:
    network = mlp(10, 10, 10)
    prune(network, Mag(), 0.3)
    network[2] = nn.Linear(10, 4)
    start = starting_masks(network, Selection().of(network))
    assert start["2.weight"].all()
    assert start["2.weight"].shape == (4, 10)
    assert not start["0.weight"].all()
    assert count_kept(prune(network, Mag(), 0.2).masks) == 28
    assert count_kept(prune(network, Mag(), 0.2, selection=Selection(exclude=("2",))).masks) <= 20
    del network[2]
    assert count_kept(prune(network, Mag(), 0.05).masks) == 5


@pytest.mark.parametrize("density", [-0.1, 1.5, float("nan"), 0.0, 1e-9])
def test_a_density_out_of_range_or_too_low_is_refused(density: float) -> None:
    network = mlp(4, 4)
    before = values(network)
    with pytest.raises(BadRequest, match="density="):
        prune(network, Mag(), density)
    assert same(network, before)


def test_the_lowest_density_keeps_one_parameter() -> None:
    check_density(1 / 16, 16)
    assert count_kept(prune(mlp(4, 4), Mag(), 1 / 16).masks) == 1


@pytest.mark.parametrize("criterion", [SNIP(), GraSP(), SynFlow()])
def test_a_missing_objective_is_named(criterion: Criterion) -> None:
    field = "inputs" if criterion.needs == "example" else "batches"
    for objective in (None, Objective()) if field == "inputs" else (None,):
        with pytest.raises(ValueError, match=f"{type(criterion).__name__} needs {field}.*: pass objective="):
            prune(mlp(4, 4), criterion, 0.5, objective=objective)
    if criterion.needs == "batches":
        with pytest.raises(ValueError, match="at least one batch"):
            prune(mlp(4, 4), criterion, 0.5, objective=Objective(lambda b: b, [], (torch.ones(1, 4),)))


def test_agreed_masks_are_the_ones_that_count() -> None:
    """The masks that several processes agree on replace this process's own."""
    network = mlp(4, 4)
    agreed = {"0.weight": torch.eye(4, dtype=torch.bool)}
    outcome = prune(network, Mag(), 0.25, agree=lambda masks: agreed)
    assert outcome.masks is agreed
    assert torch.equal(network[0].weight != 0, agreed["0.weight"])


def test_seed_and_nothing_else_decides_random_scores() -> None:
    torch.manual_seed(1)
    first = prune(mlp(20, 20), Rand(), 0.5, seed=3).masks["0.weight"]
    torch.manual_seed(2)
    second = prune(mlp(20, 20), Rand(), 0.5, seed=3).masks["0.weight"]
    third = prune(mlp(20, 20), Rand(), 0.5, seed=4).masks["0.weight"]
    assert torch.equal(first, second)
    assert not torch.equal(first, third)


@pytest.mark.parametrize("scores", [[1.0], {}, {"0.weight": torch.ones(3)}], ids=["list", "empty", "shape"])
def test_scores_that_fit_no_parameter_name_their_criterion(scores) -> None:
    class Own(Mag):
        def scores(self, network, parameters, objective):
            return scores

    with pytest.raises(ValueError, match=r"Own\.scores must return"):
        prune(mlp(4, 4), Own(), 0.5)


class Writing(Mag):
    """Derived from a criterion that only reads weights, but writes to them."""

    def scores(self, network: nn.Module, parameters: Parameters, objective: Objective | None) -> Scores:
        scores = super().scores(network, parameters, objective)
        for parameter in parameters.values():
            parameter.data.add_(1)
        return scores


@pytest.mark.parametrize("rounds", [1, 3])
@pytest.mark.parametrize("criterion", [Mag(), Writing()])
def test_kept_weights_are_as_before_whether_or_not_a_copy_was_needed(criterion: Mag, rounds: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    masks = prune(network, criterion, 0.4, plan=Plan(rounds=rounds)).masks
    for name, parameter in network.named_parameters():
        expected = before[name] * masks[name] if name in masks else before[name]
        assert torch.equal(parameter, expected)
    for name, mask in masks.items():
        assert mask.is_contiguous()
        assert mask.sum() < mask.numel(), name
