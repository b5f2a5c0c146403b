"""Karnin's sensitivities, worked by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunelit.pruning.criteria import Karnin
from prunelit.pruning.masks import Scores
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest


def linear(*weights: float) -> nn.Linear:
    layer = nn.Linear(len(weights), 1, bias=False)
    layer.weight.data = torch.tensor([weights])
    return layer


def observed(criterion: Karnin, ways: list[list[float]], rates: list[float]) -> Scores:
    """Walk one layer's weights through ``ways``, the first as it starts."""
    layer = linear(*ways[0])
    parameters: Parameters = {"weight": layer.weight}
    criterion.begin(parameters)
    for way, rate in zip(ways[1:], rates, strict=True):
        layer.weight.data = torch.tensor([way])
        criterion.observe(parameters, {"weight": rate})
    return criterion.scores(layer, parameters, None)


# Weight a goes 1, 2, 4, 3: (1 + 4 + 1) / 0.5 * 3 / (3 - 1) = 18.
# Weight b goes 2, 1, 1, -2: (1 + 0 + 9) / 0.5 * -2 / (-2 - 2) = 10.
# Weight c goes -1, 0, -1, -0.5: (1 + 1 + 0.25) / 0.5 * -0.5 / (-0.5 + 1) = -4.5.
# Weight d goes 1, 2, 3, 1: 0, as it ends where it began.
WAYS = [[1.0, 2.0, -1.0, 1.0], [2.0, 1.0, 0.0, 2.0], [4.0, 1.0, -1.0, 3.0], [3.0, -2.0, -0.5, 1.0]]
SENSITIVITIES = torch.tensor([[18.0, 10.0, -4.5, 0.0]], dtype=torch.float64)


@pytest.mark.parametrize("per", ["step", "epoch"])
def test_four_weights_in_three_steps(per: str) -> None:
    criterion = Karnin(per=per)
    assert criterion.observes == per
    scores = observed(criterion, WAYS, [0.5, 0.5, 0.5])
    assert torch.allclose(scores["weight"], (SENSITIVITIES + 4.5) / 22.5)


def test_each_change_is_divided_by_the_rate_of_its_own_step() -> None:
    """Weight a: 1 / 1 + 4 / 0.5 + 1 / 0.25 = 13, times 3 / 2; weight b: 1 + 0 + 36 = 37, times 1 / 2."""
    scores = observed(Karnin(), [[*way[:2], 1.0] for way in WAYS], [1.0, 0.5, 0.25])
    assert torch.allclose(scores["weight"], torch.tensor([[1, 18.5 / 19.5, 0]], dtype=torch.float64))


def test_a_rate_of_zero_adds_nothing() -> None:
    twice = [WAYS[0], *WAYS]
    scores = observed(Karnin(), twice, [0.0, 0.5, 0.5, 0.5])
    assert torch.allclose(scores["weight"], (SENSITIVITIES + 4.5) / 22.5)


def test_a_threshold_removes_what_lies_below_it() -> None:
    """Scaled: 1, 0.644, 0, 0.2."""
    criterion = Karnin()
    observed(criterion, WAYS, [0.5, 0.5, 0.5])
    for threshold, kept in ((0.1, [1, 1, 0, 1]), (0.45, [1, 1, 0, 0]), (0.7, [1, 0, 0, 0])):
        layer = linear(*WAYS[-1])
        masks = prune(layer, criterion, None, plan=Plan(threshold=threshold)).masks
        assert masks["weight"].tolist() == [[bool(value) for value in kept]]


@pytest.mark.parametrize(
    ("normalize", "expected"),
    [("layer", ([1.0, 0.0], [0.0, 1.0])), ("global", ([1.0, 0.25], [0.0, 0.5]))],
)
def test_the_range_is_a_layer_s_or_that_of_all(normalize: str, expected: tuple[list[float], ...]) -> None:
    """Sensitivities 4 and 1 in one layer, 0 and 2 in the other; each weight doubles: dw^2 * w_f / dw."""
    starts = {"one": [2**0.5, 0.5**0.5], "two": [0.0, 1.0]}
    network = nn.ModuleDict({name: linear(*weights) for name, weights in starts.items()})
    parameters = dict(network.named_parameters())
    criterion = Karnin(normalize=normalize)
    criterion.begin(parameters)
    for parameter in parameters.values():
        parameter.data *= 2
    criterion.observe(parameters, dict.fromkeys(parameters, 1.0))
    scores = criterion.scores(network, parameters, None)
    for name, values in zip(parameters, expected, strict=True):
        assert scores[name].flatten().tolist() == pytest.approx(values, abs=1e-6)


def test_without_training_nothing_is_removed_by_a_threshold() -> None:
    layer = linear(1.0, 2.0)
    assert prune(layer, Karnin(), None, plan=Plan(threshold=0.45)).masks["weight"].all()


def test_it_goes_on_from_its_state() -> None:
    whole, first, second = Karnin(), Karnin(), Karnin()
    expected = observed(whole, WAYS, [0.5, 0.5, 0.5])
    assert first.state_dict() == {}
    observed(first, WAYS[:2], [0.5])
    second.load_state_dict(first.state_dict())
    layer = linear(*WAYS[1])
    for way in WAYS[2:]:
        layer.weight.data = torch.tensor([way])
        second.observe({"weight": layer.weight}, {"weight": 0.5})
    assert torch.equal(second.scores(layer, {"weight": layer.weight}, None)["weight"], expected["weight"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per": "steps"}, r"^per=steps: .*\bstep\?"),
        ({"normalize": "net"}, r"^normalize=net: .*layer or global"),
    ],
)
def test_wrong_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        Karnin(**options)
