"""Hessian: second-order change of the loss, with an exact and an estimated diagonal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from prunelit.pruning.criteria import Hessian, hessian
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest

Batches = list[tuple[Tensor, Tensor]]
Linear = Callable[..., nn.Linear]


def half_square(y: Tensor, target: Tensor) -> Tensor:
    return ((y - target) ** 2 / 2).sum(1).mean()


def test_two_layers_of_one_weight_by_hand(linear: Linear) -> None:
    network = nn.Sequential(linear([[2.0]]), linear([[3.0]]))
    # y = a b x with a = 2, b = 3, x = 1;  L = (y - 5)^2 / 2;  d2L/da2 = b^2 = 9, d2L/db2 = a^2 = 4
    # w^2 H / 2 = (4 * 9 / 2, 9 * 4 / 2) = (18, 18)
    batches = [(torch.ones(1, 1).double(), torch.tensor([[5.0]]))]
    objective = Objective.of_classifier(network, batches, half_square)
    parameters = Selection().of(network)
    scores = Hessian(probes=None).scores(network, parameters, objective)
    assert [float(scores[name]) for name in parameters] == [18.0, 18.0]
    # The mixed derivative y - 5 + a b = 7: a probe with signs s, t has s (9 s + 7 t), t (7 s + 4 t),
    # that is 9 + 7 s t and 4 + 7 s t: 16 and 11, or 2 and -3.
    scores = Hessian(probes=1).scores(network, parameters, objective)
    found = [float(scores[name]) for name in parameters]
    assert found in ([4 * 16 / 2, 9 * 11 / 2], [4 * 2 / 2, 9 * -3 / 2])


def test_negative_curvature_is_removed_first() -> None:
    class Saddle(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 1, bias=False, dtype=torch.float64)
            self.layer.weight.data = torch.tensor([[2.0, 1.0, 3.0]]).double()

        def forward(self, x: Tensor) -> Tensor:
            return (self.layer.weight**2 * x).sum(1)

    network = Saddle()
    # L = -w0^2 + w1^2 + 0 w2^2: H = (-2, 2, 0), w^2 H / 2 = (-4, 1, 0)
    objective = Objective(network, [torch.tensor([[-1.0, 1.0, 0.0]]).double()], ())
    for probes in (None, 3):
        outcome = prune(network, Hessian(probes), 1.0, objective=objective)
        assert outcome.scores["layer.weight"].tolist() == [pytest.approx([-4.0, 1.0, 0.0])]
    assert prune(network, Hessian(), 2 / 3, objective=objective).masks["layer.weight"].tolist() == [
        [False, True, True]
    ]


def reference(network: nn.Module, batches: Batches, names: list[str]) -> tuple[Tensor, Tensor]:
    """The weights and the whole Hessian of the mean loss over all samples."""
    shapes = [network.get_parameter(name).shape for name in names]
    weights = torch.cat([network.get_parameter(name).detach().flatten() for name in names])

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes])
        tensors: Mapping[str, Tensor] = {
            name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)
        }
        sums = [
            F.cross_entropy(functional_call(network, dict(tensors), x), y, reduction="sum")
            for x, y in batches
        ]
        return torch.stack(sums).sum() / sum(len(y) for _, y in batches)

    return weights, torch.autograd.functional.hessian(loss, weights)


def test_exact_diagonal(residual: nn.Module, images: Batches) -> None:
    residual.eval()
    parameters = Selection(bias=True, norm=True).of(residual)
    weights, whole = reference(residual, images, list(parameters))
    scores = Hessian(None).scores(residual, parameters, Objective.of_classifier(residual, images))
    found = torch.cat([scores[name].flatten() for name in parameters])
    torch.testing.assert_close(found, weights**2 * whole.diagonal() / 2)
    assert found.max() > 0


def test_estimated_diagonal_is_within_its_standard_errors(residual: nn.Module, images: Batches) -> None:
    residual.eval()
    parameters = Selection().of(residual)
    weights, whole = reference(residual, images, list(parameters))
    exact = weights**2 * whole.diagonal() / 2
    variance = (whole - whole.diagonal().diag()).square().sum(1)
    torch.manual_seed(0)
    probes = 400
    scores = Hessian(probes).scores(residual, parameters, Objective.of_classifier(residual, images))
    errors = torch.cat([scores[name].flatten() for name in parameters]) - exact
    deviations = errors / (weights**2 / 2 * (variance / probes).sqrt()).clamp_min(1e-12)
    assert deviations.abs().max() < 5
    assert 0.7 < deviations.square().mean().sqrt() < 1.4


def test_batches_and_ranks_share_the_vectors(residual: nn.Module, images: Batches) -> None:
    """Whichever process has a batch, the estimate is the same."""
    residual.eval()
    parameters = Selection().of(residual)

    def scores(batches: Batches) -> dict[str, Tensor]:
        torch.manual_seed(5)
        return Hessian(3).scores(residual, parameters, Objective.of_classifier(residual, batches))

    both, first, second = scores(images), scores(images[:1]), scores(images[1:])
    for name in parameters:
        torch.testing.assert_close(both[name], (6 * first[name] + 3 * second[name]) / 9)


@pytest.mark.parametrize("probes", [None, 2])
def test_no_curvature_scores_zero(linear: Linear, probes: int | None) -> None:
    network = nn.ModuleDict(
        {"used": linear([[2.0, 3.0]]), "bent": linear([[1.0, 1.0]]), "unused": linear([[1.0]])}
    )
    batches = [torch.ones(1, 2).double()]
    parameters = Selection().of(network)

    def scores(loss: Callable[[Tensor], Tensor]) -> list[list[float]]:
        found = Hessian(probes).scores(network, parameters, Objective(loss, batches, ()))
        return [found[name].flatten().tolist() for name in parameters]

    assert scores(lambda x: network["used"](x).sum()) == [[0.0, 0.0], [0.0, 0.0], [0.0]]
    # Beside a curved part: H = ((1, 1), (1, 1)) there.
    partly = scores(lambda x: (network["used"](x) + network["bent"](x).square() / 2).sum())
    assert (partly[0], partly[2]) == ([0.0, 0.0], [0.0])
    assert partly[1] == [0.5, 0.5] or probes


@pytest.mark.parametrize("probes", [0, -1, 1.5, True])
def test_wrong_options_are_refused(probes: Any) -> None:
    with pytest.raises(BadRequest, match=r"^probes="):
        Hessian(probes)


def test_the_exact_diagonal_of_a_large_network_is_refused(
    residual: nn.Module, images: Batches, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hessian, "LARGEST_EXACT", 143)
    objective = Objective.of_classifier(residual, images)
    with pytest.raises(BadRequest, match=r"^probes=null: .*\b144\b.*\b143\b"):
        Hessian(None).scores(residual, Selection().of(residual), objective)
    monkeypatch.setattr(hessian, "LARGEST_EXACT", 144)
    Hessian(None).scores(residual, Selection().of(residual), objective)
