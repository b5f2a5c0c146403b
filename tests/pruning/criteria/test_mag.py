"""Magnitude pruning."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from prunelit.pruning.criteria import Mag
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import prune

Linear = Callable[..., nn.Linear]


def test_two_layers_by_hand(linear: Linear) -> None:
    network = nn.Sequential(linear([[0.5, -2.0], [1.5, 0.25]]), linear([[-1.0, 3.0]]))
    scores = Mag().scores(network, Selection().of(network), None)
    assert scores["0.weight"].tolist() == [[0.5, 2.0], [1.5, 0.25]]
    assert scores["1.weight"].tolist() == [[1.0, 3.0]]
    # Half of six stay: 3, 2 and 1.5.
    masks = prune(network, Mag(), 0.5).masks
    assert masks["0.weight"].tolist() == [[False, True], [True, False]]
    assert masks["1.weight"].tolist() == [[False, True]]


def test_residual_convolutions_with_biases_and_norms(residual: nn.Module) -> None:
    parameters = Selection(bias=True, norm=True).of(residual)
    for name, score in Mag().scores(residual, parameters, None).items():
        expected = [abs(weight) for weight in residual.get_parameter(name).flatten().tolist()]
        assert score.flatten().tolist() == expected
        assert not score.requires_grad


def test_scores_are_no_view_of_the_weights(residual: nn.Module) -> None:
    nn.init.constant_(residual.fc.weight, 1.0)
    scores = Mag().scores(residual, Selection().of(residual), None)
    scores["fc.weight"].zero_()
    assert torch.equal(residual.fc.weight, torch.ones(3, 3, dtype=torch.float64))
