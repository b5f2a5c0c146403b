"""Hessian by the Gauss-Newton diagonal: the exact one where no second derivative of the network matters."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import gauss_newton
from prunelit.pruning.criteria import Hessian
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.preserve import random_state
from prunelit.request import BadRequest

Batches = list[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


class Pixels(nn.Module):
    """Classes for each of 3 x 3 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 4, 3), nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.relu(self.first(x)))


def soft(y: Tensor) -> Tensor:
    return F.one_hot(y, 3).double() * 0.7 + 0.1


LOSSES: dict[str, Loss] = {
    "cross-entropy": F.cross_entropy,
    "by nll_loss": lambda z, y: F.nll_loss(z.log_softmax(1), y),
    "weighted": lambda z, y: F.cross_entropy(z, y, weight=torch.tensor([1.0, 2.0, 5.0]).to(z)),
    "smoothed": lambda z, y: F.cross_entropy(z, y, label_smoothing=0.2),
    "ignored": lambda z, y: F.cross_entropy(z, y, ignore_index=1),
    "soft labels": lambda z, y: F.cross_entropy(z, soft(y)),
    "divergence": lambda z, y: F.kl_div(z.log_softmax(1), soft(y), reduction="batchmean"),
    "squared error": lambda z, y: F.mse_loss(z, soft(y)),
    "binary": lambda z, y: F.binary_cross_entropy_with_logits(z, soft(y)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_it_is_the_exact_diagonal_of_a_network_with_relu(
    name: str, residual: nn.Module, images: Batches, caplog: pytest.LogCaptureFixture
) -> None:
    residual.eval()
    parameters = Selection(bias=True, norm=True).of(residual)
    objective = Objective(lambda batch: LOSSES[name](residual(batch[0]), batch[1]), images)
    found = Hessian().scores(residual, parameters, objective)
    expected = Hessian(probes=None).scores(residual, parameters, objective)
    for key in parameters:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-12)
        assert (found[key] >= 0).all()
    assert not caplog.records


def test_pixels_are_classified_one_by_one() -> None:
    torch.manual_seed(0)
    network = Pixels().double()
    batch = (torch.randn(2, 2, 5, 5).double(), torch.randint(3, (2, 3, 3)))
    parameters, objective = Selection().of(network), Objective.of_classifier(network, [batch])
    found = Hessian().scores(network, parameters, objective)
    expected = Hessian(None).scores(network, parameters, objective)
    for key in parameters:
        torch.testing.assert_close(found[key], expected[key], rtol=1e-6, atol=1e-12)


def test_statistics_of_the_batch_count_and_chunks_change_nothing(
    residual: nn.Module, images: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In train mode samples do not stand alone: the diagonal of J' H J by the whole Jacobian, slowly."""
    residual.train()
    parameters = Selection().of(residual)
    x = images[0][0]
    found = Hessian().scores(residual, parameters, Objective.of_classifier(residual, images[:1]))
    monkeypatch.setattr(gauss_newton, "CHUNK", 300)
    chunked = Hessian().scores(residual, parameters, Objective.of_classifier(residual, images[:1]))
    logits = residual(x)
    q = logits.softmax(1).detach()
    for name, p in parameters.items():
        rows = [torch.autograd.grad(z, p, retain_graph=True)[0].flatten() for z in logits.flatten()]
        jacobian = torch.stack(rows).view(len(x), 3, -1)
        curvature = torch.diag_embed(q) - q[:, :, None] * q[:, None, :]
        diagonal = torch.einsum("nip,nij,njp->p", jacobian, curvature, jacobian) / len(x)
        expected = (p.detach().flatten() ** 2 * diagonal / 2).view(p.shape)
        torch.testing.assert_close(found[name], expected)
        torch.testing.assert_close(chunked[name], expected)


def test_networks_with_curvature_of_their_own_have_no_negative_score() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    objective = Objective.of_classifier(network, [(torch.randn(20, 4), torch.randint(3, (20,)))])
    parameters = Selection().of(network)
    exact = torch.cat([s.flatten() for s in Hessian(None).scores(network, parameters, objective).values()])
    found = torch.cat([s.flatten() for s in Hessian().scores(network, parameters, objective).values()])
    assert exact.min() < 0 <= found.min()


UNKNOWN: dict[str, Callable[[nn.Module, Tensor, Tensor], Tensor]] = {
    "by hand": lambda net, x, y: net(x).logsumexp(1).mean() - net(x).gather(1, y[:, None]).mean(),
    "with a penalty": lambda net, x, y: F.cross_entropy(net(x), y) + net[0].weight.square().sum(),
    "two heads": lambda net, x, y: F.cross_entropy(net(x), y) + F.cross_entropy(net(2 * x), y),
    "of a mean": lambda net, x, y: F.cross_entropy(net(x), y).square(),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_losses_fall_back_to_the_estimate_and_say_so(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 3))
    batch = (torch.randn(5, 4), torch.randint(3, (5,)))
    objective = Objective(lambda b: UNKNOWN[name](network, *b), [batch])
    parameters = Selection().of(network)
    with caplog.at_level(logging.WARNING), random_state(1):
        found = Hessian().scores(network, parameters, objective)
    with random_state(1):
        expected = Hessian(probes=100).scores(network, parameters, objective)
    assert torch.equal(found["0.weight"], expected["0.weight"])
    assert "100 random vectors" in caplog.text


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"method": "exact", "probes": 3}, "probes=3"),
        ({"method": "gauss_newton", "probes": 3}, "probes=3"),
        ({"method": "hutchinson", "probes": None}, "probes=null"),
        ({"method": "newton"}, "method=newton"),
    ],
)
def test_options_that_contradict_each_other_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest, match=f"^{key}: "):
        Hessian(**options)
