"""Random pruning."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from prunelit.pruning.criteria import Rand
from prunelit.pruning.masks import count_kept, layer_densities
from prunelit.pruning.parameters import Selection
from prunelit.pruning.preserve import random_state
from prunelit.pruning.rounds import prune

Linear = Callable[..., nn.Linear]


def test_two_layers_by_hand(linear: Linear) -> None:
    """The masks keep the highest of the numbers that the random state gives in turn."""
    network = nn.Sequential(linear([[0.5, -2.0], [1.5, 0.25]]), linear([[-1.0, 3.0]]))
    with random_state(7):
        drawn = torch.rand(2, 2, dtype=torch.float64), torch.rand(1, 2, dtype=torch.float64)
    outcome = prune(network, Rand(), 0.5, seed=7)
    assert torch.equal(outcome.scores["0.weight"], drawn[0])
    assert torch.equal(outcome.scores["1.weight"], drawn[1])
    third = sorted([*drawn[0].flatten().tolist(), *drawn[1].flatten().tolist()])[3]
    assert torch.equal(outcome.masks["0.weight"], drawn[0] >= third)
    assert torch.equal(outcome.masks["1.weight"], drawn[1] >= third)


def test_uniform_and_independent_of_weights_and_layers() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 300))
    with random_state(0):
        scores = Rand().scores(network, Selection().of(network), None)
    for name, score in scores.items():
        assert 0 <= float(score.min()) < 1e-3
        assert 1 - 1e-3 < float(score.max()) < 1
        # n = 60,000 draws: the mean's standard deviation is 0.289 / sqrt(n) = 0.0012.
        assert float(score.mean()) == pytest.approx(0.5, abs=0.005)
        assert float(score.var()) == pytest.approx(1 / 12, abs=0.002)
        pair = torch.stack([score.flatten(), network.get_parameter(name).detach().double().flatten()])
        assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02
    pair = torch.stack([score.flatten() for score in scores.values()])
    assert abs(float(torch.corrcoef(pair)[0, 1])) < 0.02


def test_layers_lose_about_equal_shares() -> None:
    network = nn.Sequential(nn.Linear(300, 200), nn.Linear(200, 100), nn.Linear(100, 50))
    nn.init.constant_(network[1].weight, 100.0)
    masks = prune(network, Rand(), 0.1).masks
    assert count_kept(masks) == 8500
    # The smallest layer has 5,000 weights: the share's standard deviation is 0.3 / sqrt(5000) = 0.0042.
    assert list(layer_densities(masks).values()) == pytest.approx([0.1] * 3, abs=0.02)


def test_rounds_draw_anew() -> None:
    with random_state(0):
        network = nn.Linear(10, 10)
        first = Rand().scores(network, Selection().of(network), None)["weight"]
        second = Rand().scores(network, Selection().of(network), None)["weight"]
    assert not (first == second).any()
