"""SynFlow where the flow leaves the range of floating point."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection

Example = Callable[..., Objective]
Linear = Callable[..., nn.Linear]
EVERYTHING = Selection(bias=True, norm=True)


def scores_of(network: nn.Module, objective: Objective, selection: Selection = EVERYTHING) -> Scores:
    return SynFlow().scores(network, selection.of(network), objective)


def mlp(*sizes: int, bias: bool = True) -> nn.Sequential:
    layers = [nn.Linear(a, b, bias=bias) for a, b in itertools.pairwise(sizes)]
    return nn.Sequential(*[module for layer in layers for module in (layer, nn.ReLU())][:-1])


def log_scores(network: nn.Sequential) -> list[Tensor]:
    """Logarithms of the scores of an MLP's weights, with each activation and gradient kept near 1."""
    layers = [module.weight.detach().double().abs() for module in network if isinstance(module, nn.Linear)]
    h, log_h = [torch.ones(layers[0].shape[1], 1, dtype=torch.float64)], [0.0]
    for w in layers:
        z = w @ h[-1]
        log_h.append(log_h[-1] + float(z.max().log()))
        h.append(z / z.max())
    g, log_g = torch.ones(1, len(layers[-1]), dtype=torch.float64), 0.0
    scores = []
    for i in reversed(range(len(layers))):
        scores.append((layers[i] * h[i].T * g.T).log() + log_h[i] + log_g)
        g = g @ layers[i]
        log_g += float(g.max().log())
        g = g / g.max()
    return scores[::-1]


@pytest.mark.parametrize("digits", [-500, -350, -150, -60, 60, 150, 350, 500])
def test_very_deep_networks_neither_overflow_nor_underflow(digits: int, example: Example) -> None:
    """R is about 10 ** digits: float32 ends at 38, float64 at 308. Score ratios are right all the same."""
    torch.manual_seed(0)
    network = mlp(5, *[6] * 119, 4, bias=False)
    gain = float(log_scores(network)[0].logsumexp((0, 1)))
    factor = torch.tensor((digits * 2.302585093 - gain) / 120).exp()
    for module in network:
        if isinstance(module, nn.Linear):
            module.weight.data *= factor
    scores = scores_of(network, example(1, 5))
    expected = log_scores(network)
    assert float(expected[0].logsumexp((0, 1))) == pytest.approx(digits * 2.302585, rel=1e-4)
    found = torch.cat([score.log().flatten() for score in scores.values()])
    wanted = torch.cat([score.flatten() for score in expected])
    assert torch.isfinite(found).all()
    # All scores differ from the reference by one common factor, which is 1 within float64's range.
    common = (found - wanted)[0] if abs(digits) > 180 else torch.tensor(0.0)
    torch.testing.assert_close(found - common, wanted, rtol=0, atol=1e-7)


def test_rescaling_multiplies_every_score_by_one_power_of_two(residual: nn.Module, example: Example) -> None:
    """Input, shifts and output share a factor: exact, with biases, BatchNorm and a residual sum."""
    steep = copy.deepcopy(residual)
    objective = example(1, 2, 5, 5)
    for name, parameter in steep.named_parameters():  # multiplies R by 2 ** 900, far beyond the limit of 600
        if name == "conv1.weight" or name.endswith("bias"):
            parameter.data *= 2.0**900
    plain, scaled = scores_of(residual, objective), scores_of(steep, objective)
    factor = float(scaled["fc.weight"][0, 0] / plain["fc.weight"][0, 0])
    assert torch.frexp(torch.tensor(factor, dtype=torch.float64)).mantissa == 0.5
    assert factor != 2.0**900
    for name in plain:
        assert torch.equal(scaled[name], plain[name] * factor), name


def test_a_network_that_is_not_homogeneous_is_not_rescaled(example: Example) -> None:
    class Saturated(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2, bias=False, dtype=torch.float64)
            self.out = nn.Linear(2, 1, bias=False, dtype=torch.float64)

        def forward(self, x: Tensor) -> Tensor:
            return 2.0**700 * self.out(self.fc(x).tanh())

    network = Saturated()
    w, out = network.fc.weight.detach().abs(), network.out.weight.detach().abs()
    slope = 1 - w.sum(1, keepdim=True).tanh() ** 2
    scores = scores_of(network, example(1, 2))
    torch.testing.assert_close(scores["fc.weight"], 2.0**700 * w * slope * out.T)
