"""Fisher: squared gradients of single samples."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap
from torch.nn import functional as F

from prunelit.pruning.criteria import Fisher
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune

Batches = list[tuple[Tensor, Tensor]]
Linear = Callable[..., nn.Linear]


def test_two_weights_by_hand(linear: Linear) -> None:
    network = linear([[2.0, 3.0]])
    # y = 2 x1 + 3 x2, L = (y - t)^2 / 2, g = (y - t) x.
    # x = (1, 0), t = 0: g = (2, 0);  x = (1, 1), t = 6: g = (-1, -1);  x = (0, 2), t = 5: g = (0, 2)
    # mean g^2 = ((4 + 1 + 0) / 3, (0 + 1 + 4) / 3) = (5/3, 5/3);  w^2 / 2 = (2, 4.5)
    images = torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 2.0]]).double()
    batches = [(images[:2], torch.tensor([[0.0], [6.0]])), (images[2:], torch.tensor([[5.0]]))]
    objective = Objective.of_classifier(network, batches, lambda y, t: ((y - t) ** 2 / 2).sum(1).mean())
    scores = Fisher().scores(network, Selection().of(network), objective)
    assert scores["weight"].tolist() == [pytest.approx([10 / 3, 7.5])]


@pytest.mark.parametrize("train_mode", [False, True])
def test_gradients_of_all_samples_at_once(residual: nn.Module, images: Batches, train_mode: bool) -> None:
    """Running statistics in train mode too: a sample has none of its own."""
    objective = Objective.of_classifier(residual, images)
    selection, plan = Selection(bias=True, norm=True), Plan(train_mode=train_mode)
    scores = prune(residual, Fisher(), 1.0, selection=selection, plan=plan, objective=objective).scores
    residual.eval()
    tensors = {name: p.detach() for name, p in residual.named_parameters()}

    def loss(weights: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(residual, weights, x[None]), y[None])

    x, y = (torch.cat([batch[i] for batch in images]) for i in (0, 1))
    gradients = vmap(grad(loss), (None, 0, 0))(tensors, x, y)
    for name, score in scores.items():
        expected = tensors[name] ** 2 * gradients[name].square().mean(0) / 2
        torch.testing.assert_close(score, expected)


def test_batches_make_no_difference(residual: nn.Module, images: Batches) -> None:
    residual.eval()
    parameters = Selection().of(residual)
    joined = [(torch.cat([x for x, _ in images]), torch.cat([y for _, y in images]))]
    parts = Fisher().scores(residual, parameters, Objective.of_classifier(residual, images))
    whole = Fisher().scores(residual, parameters, Objective.of_classifier(residual, joined))
    for name in parameters:
        torch.testing.assert_close(parts[name], whole[name])
