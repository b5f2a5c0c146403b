"""Taylor: squared first-order change of the loss, batch by batch."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SNIP, Taylor
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import prune

Batches = list[tuple[Tensor, Tensor]]
Linear = Callable[..., nn.Linear]


def half_square(y: Tensor, target: Tensor) -> Tensor:
    return ((y - target) ** 2 / 2).sum(1).mean()


def test_two_weights_by_hand(linear: Linear) -> None:
    network = linear([[2.0, 3.0]])
    # y = 2 x1 + 3 x2, dL/dw = mean of (y - t) x over a batch.
    # First batch, two samples: x = (1, 0), t = 0: y = 2, g = (2, 0); x = (0, 2), t = 5: y = 6, g = (0, 2).
    #   mean g = (1, 1), (w g)^2 = (4, 9)
    # Second batch, one sample: x = (1, 1), t = 6: y = 5, g = (-1, -1), (w g)^2 = (4, 9).
    # x = (1, 0), t = 3 instead: y = 2, g = (-1, 0), (w g)^2 = (4, 0).
    batches = [
        (torch.tensor([[1.0, 0.0], [0.0, 2.0]]).double(), torch.tensor([[0.0], [5.0]])),
        (torch.tensor([[1.0, 0.0]]).double(), torch.tensor([[3.0]])),
    ]
    objective = Objective.of_classifier(network, batches, half_square)
    scores = Taylor().scores(network, Selection().of(network), objective)
    # By samples: (2 (4, 9) + (4, 0)) / 3 = (4, 6)
    assert scores["weight"].tolist() == [pytest.approx([4.0, 6.0])]
    # The mean gradient is ((2 - 1) / 3, 2 / 3): to SNIP the first weight is worth 2/3, the second 2.
    snip = SNIP().scores(network, Selection().of(network), objective)
    assert snip["weight"].tolist() == [pytest.approx([2 / 3, 2.0])]


def test_central_differences_of_each_batch(residual: nn.Module, images: Batches) -> None:
    residual.eval()
    parameters = Selection(bias=True, norm=True).of(residual)
    scores = Taylor().scores(residual, parameters, Objective.of_classifier(residual, images))
    step = 1e-5
    for name, score in scores.items():
        weights = parameters[name].data.view(-1)
        for i, value in enumerate(weights.tolist()):
            expected = 0.0
            for x, y in images:
                weights[i] = value * (1 + step)
                above = F.cross_entropy(residual(x), y).item()
                weights[i] = value * (1 - step)
                below = F.cross_entropy(residual(x), y).item()
                expected += len(y) / 9 * ((above - below) / (2 * step)) ** 2
            weights[i] = value
            assert float(score.view(-1)[i]) == pytest.approx(expected, rel=1e-4, abs=1e-12), (name, i)


def test_with_one_batch_the_masks_are_snips(residual: nn.Module, images: Batches) -> None:
    objective = Objective.of_classifier(residual, images[:1])
    taylor = prune(residual, Taylor(), 1.0, objective=objective).scores
    snip = prune(residual, SNIP(), 1.0, objective=objective).scores
    for name in snip:
        torch.testing.assert_close(taylor[name], snip[name] ** 2)


def test_small_products_do_not_vanish(linear: Linear) -> None:
    network = linear([[1e-20, 2e-20]]).float()
    objective = Objective(lambda x: network(x).sum(), [torch.full((1, 2), 1e-10)], ())
    scores = Taylor().scores(network, Selection().of(network), objective)["weight"]
    assert scores.tolist() == [pytest.approx([1e-60, 4e-60], rel=1e-5)]
