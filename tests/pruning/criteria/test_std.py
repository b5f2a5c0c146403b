"""Magnitude in standard deviations."""

import pytest
import torch
from torch import nn

from prunelit import BadRequest, Plan, Std, prune


def two_layers() -> nn.Sequential:
    """Weights 1, -1 (deviation 1 about 0) and 4, -4, 0, 0 (deviation sqrt(8) about 0)."""
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 4, bias=False))
    net[0].weight.data = torch.tensor([[1.0, -1.0]])
    net[1].weight.data = torch.tensor([[4.0], [-4.0], [0.0], [0.0]])
    return net


def test_by_hand_over_all_weights() -> None:
    """Mean 0, mean square (1 + 1 + 16 + 16) / 6 = 34 / 6: at factor 0.5, |w| / (0.5 * sqrt(34 / 6))."""
    net = two_layers()
    scores = Std(factor=0.5).scores(net, dict(net.named_parameters()), None)
    unit = 0.5 * (34 / 6) ** 0.5
    assert scores["0.weight"].tolist() == [pytest.approx([1 / unit, 1 / unit])]
    assert scores["1.weight"].flatten().tolist() == pytest.approx([4 / unit, 4 / unit, 0, 0])


def test_by_hand_layer_by_layer() -> None:
    net = two_layers()
    scores = Std(factor=2, scope="layer").scores(net, dict(net.named_parameters()), None)
    assert scores["0.weight"].flatten().tolist() == pytest.approx([1 / 2, 1 / 2])
    assert scores["1.weight"].flatten()[0] == pytest.approx(4 / (2 * 8**0.5))


def test_the_threshold_removes_what_is_within_the_deviations() -> None:
    """At factor 0.5 the limit is 1.19: the first layer goes, and collapse is guarded against if asked."""
    net = two_layers()
    masks = prune(net, Std(factor=0.5), None, plan=Plan(threshold=1.0)).masks
    assert [mask.flatten().tolist() for mask in masks.values()] == [[False] * 2, [True, True, False, False]]
    guarded = prune(two_layers(), Std(0.5), None, plan=Plan(threshold=1.0, keep_at_least=1)).masks
    assert guarded["0.weight"].flatten().tolist() == [True, False]


def test_equal_weights_score_zero_and_wrong_requests_are_named() -> None:
    net = nn.Linear(3, 1, bias=False)
    nn.init.constant_(net.weight, 2.0)
    assert Std().scores(net, dict(net.named_parameters()), None)["weight"].tolist() == [[0.0, 0.0, 0.0]]
    with pytest.raises(BadRequest, match="factor=0"):
        Std(factor=0)
    with pytest.raises(BadRequest, match=r"^scope=tensor"):
        Std(scope="tensor")
