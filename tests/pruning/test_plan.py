"""The options of a plan and of a selection, one by one."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SNIP, Mag
from prunelit.pruning.masks import count_kept
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.reset import reset_parameters
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest
from watched_pruning import Watched, assert_pruned, mlp, same, values


def test_layer_scope_keeps_the_share_of_each_tensor() -> None:
    network = mlp(10, 30, 20, 5)
    network[0].weight.data.mul_(100)
    outcome = prune(network, Mag(), 0.13, plan=Plan(rounds=3, scope="layer"))
    assert {n: int(m.sum()) for n, m in outcome.masks.items()} == {
        "0.weight": 39,
        "2.weight": 78,
        "4.weight": 13,
    }


def test_bias_norm_and_exclude_decide_what_is_pruned() -> None:
    network = nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.Linear(6, 6))
    nn.init.normal_(network[1].weight)
    before = values(network)
    selection = Selection(bias=True, norm=True, exclude=("2", "1.bias"))
    outcome = prune(network, Mag(), 0.25, selection=selection)
    assert list(outcome.masks) == ["0.weight", "0.bias", "1.weight"]
    assert count_kept(outcome.masks) == 12
    assert_pruned(network, outcome.masks, before)


def test_invert_keeps_the_lowest() -> None:
    network, other = mlp(10, 10, 10), mlp(10, 10, 10)
    low = prune(network, Mag(), 0.3, plan=Plan(invert=True)).masks
    high = prune(other, Mag(), 0.7).masks
    assert all(torch.equal(low[name], ~high[name]) for name in low)


def test_shuffle_keeps_counts_and_moves_places() -> None:
    network, plain = mlp(10, 30, 20), mlp(10, 30, 20)
    network[0].weight.data.mul_(2)
    plain[0].weight.data.mul_(2)
    before = values(network)
    shuffled = prune(network, Mag(), 0.3, plan=Plan(shuffle=True)).masks
    straight = prune(plain, Mag(), 0.3).masks
    for name in shuffled:
        assert int(shuffled[name].sum()) == int(straight[name].sum())
        assert not torch.equal(shuffled[name], straight[name])
    assert_pruned(network, shuffled, before)
    again = prune(network, Mag(), 0.1, plan=Plan(shuffle=True), seed=1).masks
    assert all(not (again[name] & ~shuffled[name]).any() for name in again)


def test_reinitialize_draws_all_weights_anew_and_masks_hold() -> None:
    network, twin, other = mlp(10, 30, 20), mlp(10, 30, 20), mlp(10, 30, 20)
    before = values(network)
    straight = prune(mlp(10, 30, 20), Mag(), 0.3).masks
    outcome = prune(network, Mag(), 0.3, plan=Plan(reinitialize=True), seed=1)
    for name, mask in outcome.masks.items():
        assert torch.equal(mask, straight[name])
        weight = network.get_parameter(name).detach()
        assert (weight[~mask] == 0).all()
        assert not (weight == before[name])[mask].any()
    assert not torch.equal(network[0].bias, before["0.bias"])
    prune(twin, Mag(), 0.3, plan=Plan(reinitialize=True), seed=1)
    assert same(twin, values(network))
    prune(other, Mag(), 0.3, plan=Plan(reinitialize=True), seed=2)
    assert not same(other, values(network))


def test_reinitialize_does_not_repeat_the_weights_drawn_under_the_same_seed() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(10, 10), nn.Linear(10, 10))
    before = values(network)
    prune(network, Mag(), 1.0, plan=Plan(reinitialize=True), seed=0)
    assert not any((tensor == before[name]).any() for name, tensor in network.state_dict().items())


def test_reset_parameters_prefers_the_network_then_outer_modules() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def reset_parameters(self) -> None:
            nn.init.constant_(self.fc.weight, 5.0)

    block = Block()
    network = nn.Sequential(block, nn.BatchNorm1d(2))
    nn.init.constant_(network[1].weight, 3.0)
    nn.init.constant_(block.fc.bias, 9.0)
    reset_parameters(network)
    assert (block.fc.weight == 5).all()
    assert (block.fc.bias != 9).all()
    assert (network[1].weight == 1).all()
    nn.init.constant_(block.fc.bias, 9.0)
    reset_parameters(block)
    assert (block.fc.bias == 9).all()
    with pytest.raises(ValueError, match="reset_parameters"):
        reset_parameters(nn.ReLU())


def test_eval_mode_unless_asked_and_statistics_are_restored() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 3))
    objective = Objective.of_classifier(network, [(torch.randn(16, 4), torch.randint(3, (16,)))])
    network[1].eval()
    before = values(network)
    scores = []
    for train_mode in (False, True):
        twin = copy.deepcopy(network)
        watched = Watched()
        prune(copy.deepcopy(network), watched, 0.5, plan=Plan(train_mode=train_mode))
        assert watched.training == [train_mode]
        objective = Objective.of_classifier(twin, objective.batches)
        outcome = prune(twin, SNIP(), 0.5, plan=Plan(train_mode=train_mode), objective=objective)
        assert_pruned(twin, outcome.masks, before)
        assert [module.training for module in twin] == [True, False, True, True]
        scores.append(outcome.scores["0.weight"])
    assert not torch.allclose(scores[0], scores[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, r"^rounds=0: "),
        ({"rounds": True}, r"^rounds=true"),
        ({"rounds": 2.5}, r"^rounds=2\.5"),
        ({"schedule": "exponental"}, r"^schedule=exponental: .*\bexponential\?"),
        ({"scope": "layers"}, r"^scope=layers: .*\blayer\?"),
    ],
)
def test_a_wrong_plan_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Plan(**options)


def test_pruned_channels_last_networks() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    nn.init.constant_(network[0].weight, 0.1)  # ties
    turned = copy.deepcopy(network).to(memory_format=torch.channels_last)
    for plan in (Plan(), Plan(shuffle=True)):
        first, second = copy.deepcopy(network), copy.deepcopy(turned)
        masks = prune(first, Mag(), 0.4, plan=plan).masks
        assert all(torch.equal(m, masks[n]) for n, m in prune(second, Mag(), 0.4, plan=plan).masks.items())
        assert same(second, values(first))
        x = torch.randn(2, 4, 8, 8)
        torch.testing.assert_close(F.relu(first(x)), F.relu(second(x)), atol=1e-5, rtol=1e-5)
