"""LAMP: magnitudes relative to the larger weights of the same layer."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from prunelit.pruning.criteria import LAMP, Mag
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune

Linear = Callable[..., nn.Linear]


def test_two_layers_by_hand(linear: Linear) -> None:
    network = nn.Sequential(linear([[1.0, -2.0], [0.0, 4.0]]), linear([[-30.0, 10.0]]))
    scores = LAMP().scores(network, Selection().of(network), None)
    # Squares 1, 4, 0, 16: 1 / (1 + 4 + 16), 4 / (4 + 16), 0, 16 / 16.
    assert scores["0.weight"].flatten().tolist() == pytest.approx([1 / 21, 0.2, 0, 1])
    # Squares 900, 100: 900 / 900, 100 / 1000.
    assert scores["1.weight"].flatten().tolist() == pytest.approx([1, 0.1])
    # Three of six stay: 4, -2 and -30, where magnitude would keep 4, -30 and 10.
    masks = prune(network, LAMP(), 0.5).masks
    assert masks["0.weight"].tolist() == [[False, True], [False, True]]
    assert masks["1.weight"].tolist() == [[True, False]]


def test_of_equal_weights_the_first_counts_as_the_larger(linear: Linear) -> None:
    network = linear([[1.0, 2.0], [-2.0, 2.0]])
    scores = LAMP().scores(network, Selection().of(network), None)["weight"]
    # In the order 2, -2, 2, 1: 4 / 4, 4 / 8, 4 / 12, 1 / 13.
    assert scores.flatten().tolist() == pytest.approx([1 / 13, 1, 1 / 2, 1 / 3])


def test_literal_definition(residual: nn.Module) -> None:
    scores = prune(residual, LAMP(), 1.0, selection=Selection(bias=True, norm=True)).scores
    for name, score in scores.items():
        weights = residual.get_parameter(name).flatten().tolist()
        for weight, found in zip(weights, score.flatten().tolist(), strict=True):
            if weight == 0:
                assert found == 0
            else:
                larger = sum(other**2 for other in weights if abs(other) >= abs(weight))
                assert found == pytest.approx(weight**2 / larger, rel=1e-12)


def test_no_layer_collapses_before_each_keeps_one(residual: nn.Module) -> None:
    residual.get_parameter("fc.weight").data *= 1e-200  # squares of these are not float64 numbers
    residual.get_parameter("conv1.weight").data *= 1e200
    masks = prune(residual, LAMP(), 3 / 144).masks
    assert [int(mask.sum()) for mask in masks.values()] == [1] * 3


def test_within_a_layer_the_order_is_that_of_magnitudes(residual: nn.Module) -> None:
    other = prune(residual, Mag(), 0.3, plan=Plan(scope="layer")).masks
    masks = prune(residual, LAMP(), 0.3, plan=Plan(scope="layer")).masks
    assert all(torch.equal(masks[name], other[name]) for name in masks)


def test_a_layer_of_zeros_scores_zero() -> None:
    layer = nn.Linear(3, 2)
    nn.init.zeros_(layer.weight)
    assert LAMP().scores(layer, Selection().of(layer), None)["weight"].tolist() == [[0.0] * 3] * 2
