"""Losses that some criteria cannot be taken of."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunelit import GraSP, Hessian, Objective, prune
from prunelit.request import BadRequest


@pytest.mark.parametrize("criterion", [GraSP(temperature=1), Hessian()], ids=lambda c: type(c).__name__)
def test_a_loss_without_second_derivative_is_named(criterion) -> None:
    network = nn.Linear(4, 3)
    batch = torch.randn(5, 4), torch.arange(5) % 3
    objective = Objective(lambda b: F.multi_margin_loss(network(b[0]), b[1]), [batch])
    with pytest.raises(BadRequest, match=r"multi_margin_loss; must be .*SNIP"):
        prune(network, criterion, 0.5, objective=objective)


def test_hessian_takes_a_loss_that_compares_samples() -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 3)

    def contrast(batch: torch.Tensor) -> torch.Tensor:
        z = F.normalize(network(batch), dim=1)
        return F.cross_entropy(z @ z.T, torch.arange(len(z)) ^ 1 if len(z) > 1 else torch.tensor([1]))

    masks = prune(network, Hessian(), 0.5, objective=Objective(contrast, [torch.randn(6, 4)])).masks
    assert int(masks["weight"].sum()) == 6
