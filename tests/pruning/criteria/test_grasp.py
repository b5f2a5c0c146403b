"""GraSP: weights times Hessian times gradient, and the choices in which published codes differ."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from prunelit.pruning.criteria import GraSP
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.request import BadRequest

Batches = list[tuple[Tensor, Tensor]]
Linear = Callable[..., nn.Linear]


def half_square(y: Tensor, target: Tensor) -> Tensor:
    return ((y - target) ** 2 / 2).sum(1).mean()


def test_two_layers_of_one_weight_by_hand(linear: Linear) -> None:
    network = nn.Sequential(linear([[2.0]]), linear([[3.0]]))
    # y = a b x with a = 2, b = 3, x = 1;  L = (y - 5)^2 / 2;  y - 5 = 1
    # g = (y - 5) (b, a) = (3, 2)
    # H = ((b^2, y - 5 + a b), (y - 5 + a b, a^2)) = ((9, 7), (7, 4))
    # H g = (27 + 14, 21 + 8) = (41, 29);  w * (H g) = (82, 87)
    objective = Objective.of_classifier(
        network, [(torch.ones(1, 1).double(), torch.tensor([[5.0]]))], half_square
    )
    parameters = Selection().of(network)
    scores = GraSP(temperature=1).scores(network, parameters, objective)
    assert [float(scores[name]) for name in parameters] == [82.0, 87.0]
    scores = GraSP(temperature=1, sign=-1).scores(network, parameters, objective)
    assert [float(scores[name]) for name in parameters] == [-82.0, -87.0]
    # Removing a weight d w = -w changes |g|^2 by about 2 d w (H g): here less for a than for b, so b stays.
    assert prune(network, GraSP(temperature=1), 0.5, objective=objective).masks["1.weight"].item()
    turned = nn.Sequential(linear([[2.0]]), linear([[3.0]]))
    objective = Objective.of_classifier(turned, objective.batches, half_square)
    assert prune(turned, GraSP(1.0, sign=-1), 0.5, objective=objective).masks["0.weight"].item()


class Scaled(nn.Module):
    """y = a * BatchNorm(b * x), without affine parameters: two prunable weights."""

    def __init__(self, linear: Linear) -> None:
        super().__init__()
        self.inner, self.outer = linear([[2.0]]), linear([[3.0]])
        self.norm = nn.BatchNorm1d(1, affine=False, eps=1e-14).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(self.norm(self.inner(x)))


def test_batch_norm_and_split_on_two_weights_by_hand(linear: Linear) -> None:
    network = Scaled(linear)
    parameters = Selection().of(network)
    x = torch.tensor([[1.0], [3.0], [2.0], [10.0]]).double()
    objective = Objective.of_classifier(network, [(x, torch.zeros(4, 1))], half_square)

    def scores(**options: Any) -> list[float]:
        found = GraSP(temperature=1, **options).scores(network, parameters, objective)
        return [float(found["inner.weight"]), float(found["outer.weight"])]

    # Running statistics, mean 0 and variance 1: y = a b x, L = a^2 b^2 m / 2 with m = mean(x^2) = 28.5.
    # a = 3 (outer), b = 2 (inner): g = m (a^2 b, a b^2) = m (18, 12) in the order b, a
    # H = m ((a^2, 2 a b), (2 a b, b^2)) = m ((9, 12), (12, 4))
    # H g = m^2 (162 + 144, 216 + 48) = m^2 (306, 264)
    # w * (H g) = m^2 (612, 792)
    running = pytest.approx([612 * 28.5**2, 792 * 28.5**2])
    assert scores() == running
    assert scores(split=2) == running  # no sample minds its neighbours
    # Batch statistics: the normalised x has mean square 1 whatever b is, so L = a^2 / 2.
    # g = (0, a);  H = ((0, 0), (0, 1));  w * (H g) = (0, a^2) = (0, 9), in halves too.
    batch = pytest.approx([0.0, 9.0], abs=1e-6)
    assert scores(batch_norm="batch") == batch
    assert scores(batch_norm="batch", split=2) == batch


def test_split_changes_batch_statistics(linear: Linear) -> None:
    network = Scaled(linear)
    parameters = Selection().of(network)
    x = torch.tensor([[1.0], [3.0], [2.0], [10.0]]).double()
    target = torch.tensor([[0.0], [0.0], [1.0], [1.0]]).double()
    objective = Objective.of_classifier(network, [(x, target)], half_square)

    def outer(split: int) -> float:
        criterion = GraSP(temperature=1, batch_norm="batch", split=split)
        return float(criterion.scores(network, parameters, objective)["outer.weight"])

    # L = mean((a u - t)^2) / 2 with u the normalised x: g = a - c, H = 1, w (H g) = a (a - c), c = mean(u t).
    # In halves u = (-1, 1), (-1, 1) and c = (-1 + 1) / 4 = 0: 3 * 3 = 9.
    assert outer(2) == pytest.approx(9.0)
    # Whole: mean 4, variance (9 + 1 + 4 + 36) / 4 = 12.5, c = (-2 + 6) / 4 / sqrt(12.5) = 1 / sqrt(12.5).
    assert outer(1) == pytest.approx(3 * (3 - 12.5**-0.5))


def reference(
    network: nn.Module, batches: Batches, temperature: float, names: list[str]
) -> dict[str, Tensor]:
    """w * (H g) of the mean loss over all samples, from the whole Hessian."""
    shapes = [network.get_parameter(name).shape for name in names]
    weights = torch.cat([network.get_parameter(name).detach().flatten() for name in names])

    def loss(flat: Tensor) -> Tensor:
        pieces = flat.split([shape.numel() for shape in shapes])
        tensors: Mapping[str, Tensor] = {
            name: piece.view(shape) for name, piece, shape in zip(names, pieces, shapes, strict=True)
        }
        total = sum(
            F.cross_entropy(functional_call(network, dict(tensors), x) / temperature, y, reduction="sum")
            for x, y in batches
        )
        assert isinstance(total, Tensor)
        return total / sum(len(y) for _, y in batches)

    gradient = torch.autograd.functional.jacobian(loss, weights)
    hessian = torch.autograd.functional.hessian(loss, weights)
    scores = (weights * (hessian @ gradient)).split([shape.numel() for shape in shapes])
    return {name: score.view(shape) for name, score, shape in zip(names, scores, shapes, strict=True)}


@pytest.mark.parametrize("temperature", [1.0, 3.0, 200.0])
@pytest.mark.parametrize("batch_norm", ["running", "batch"])
@pytest.mark.parametrize("split", [1, 2])
def test_whole_hessian(
    residual: nn.Module, images: Batches, temperature: float, batch_norm: str, split: int
) -> None:
    network = copy.deepcopy(residual).train(batch_norm == "batch")
    cut = [
        (p, q) for x, y in images for p, q in zip(x.tensor_split(split), y.tensor_split(split), strict=True)
    ]
    if split == 2:  # of an odd batch, the first half is the smaller one
        cut = [*cut[:2], (images[1][0][:1], images[1][1][:1]), (images[1][0][1:], images[1][1][1:])]
    names = list(Selection().of(network))
    expected = reference(network, cut, temperature, names)
    outcome = prune(
        residual,
        GraSP(temperature, split=split, batch_norm=batch_norm),
        0.5,
        objective=Objective.of_classifier(residual, images),
    )
    for name in names:
        largest = float(expected[name].abs().max())
        torch.testing.assert_close(outcome.scores[name], expected[name], rtol=1e-7, atol=1e-9 * largest)


def test_batch_norm_is_the_criterions_choice_not_train_modes(residual: nn.Module, images: Batches) -> None:
    objective = Objective.of_classifier(residual, images)
    found = [
        prune(residual, GraSP(), 1.0, plan=Plan(train_mode=train_mode), objective=objective).scores
        for train_mode in (False, True)
    ]
    for name in found[0]:
        assert torch.equal(found[0][name], found[1][name])


def test_central_differences_of_the_squared_gradient_norm(residual: nn.Module, images: Batches) -> None:
    """What GraSP is for: d/dw |g|^2 = 2 H g, so score = w/2 * d|g|^2/dw."""
    residual.eval()
    parameters = Selection().of(residual)
    objective = Objective.of_classifier(residual, images)
    scores = GraSP(temperature=1.0).scores(residual, parameters, objective)

    def norm() -> float:
        return sum(float((g**2).sum()) for g in objective.gradients(parameters).values())

    step = 1e-5
    for name in ("conv1.weight", "conv2.weight", "fc.weight"):
        weights = parameters[name].data.view(-1)
        for i in range(0, len(weights), 4):
            value = float(weights[i])
            weights[i] = value + step
            above = norm()
            weights[i] = value - step
            below = norm()
            weights[i] = value
            expected = value * (above - below) / (4 * step)
            assert float(scores[name].view(-1)[i]) == pytest.approx(expected, rel=1e-4, abs=1e-8)


def test_a_loss_without_a_softmax_needs_temperature_1(linear: Linear) -> None:
    network = nn.Sequential(linear([[2.0]]), linear([[3.0]]))
    batches = [(torch.ones(1, 1).double(), torch.zeros(1, 1).double())]
    objective = Objective.of_classifier(network, batches, half_square)
    with pytest.raises(ValueError, match=r"^temperature=200\.0: "):
        GraSP().scores(network, Selection().of(network), objective)


def test_a_linear_loss_has_no_curvature(linear: Linear) -> None:
    network = linear([[2.0, 3.0]])
    objective = Objective(lambda x: network(x).sum(), [torch.ones(1, 2).double()], ())
    scores = GraSP(temperature=1).scores(network, Selection().of(network), objective)
    assert scores["weight"].tolist() == [[0.0, 0.0]]


def test_an_unused_layer_scores_zero(linear: Linear) -> None:
    network = nn.ModuleDict({"used": linear([[1.0, 2.0]]), "unused": linear([[1.0]])})
    objective = Objective(lambda x: network["used"](x).square().sum() / 2, [torch.ones(1, 2).double()], ())
    scores = GraSP(temperature=1).scores(network, Selection().of(network), objective)
    # y = 3, g = (3, 3), H = ((1, 1), (1, 1)), H g = (6, 6).
    assert scores["used.weight"].tolist() == [[6.0, 12.0]]
    assert scores["unused.weight"].tolist() == [[0.0]]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"split": 0}, "split"),
        ({"batch_norm": "train"}, "batch_norm"),
        ({"sign": 2}, "sign"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(BadRequest, match=rf"^{key}="):
        GraSP(**options)


def test_a_single_batch_gives_what_equal_batches_give(residual: nn.Module, images: Batches) -> None:
    parameters = Selection().of(residual.eval())
    found = [
        GraSP().scores(residual, parameters, Objective.of_classifier(residual, batches))
        for batches in (images[:1], images[:1] * 2)
    ]
    for name, score in found[0].items():
        assert score.any()
        torch.testing.assert_close(score, found[1][name], rtol=1e-6, atol=0)


@pytest.mark.parametrize("source", ["torch", "numpy", "python"])
def test_a_loss_that_draws_random_numbers_is_drawn_for_each_of_both_passes(
    source: str, residual: nn.Module, images: Batches
) -> None:
    generators: dict[str, Callable[[], float]] = {
        "torch": lambda: float(torch.rand(())),
        "numpy": lambda: float(np.random.rand()),
        "python": random.random,
    }
    draw = generators[source]

    def loss(batch: tuple[Tensor, Tensor], factor: float | None = None) -> Tensor:
        return F.cross_entropy((1 + (draw() if factor is None else factor)) * residual(batch[0]), batch[1])

    def seed() -> None:
        torch.manual_seed(0)
        np.random.seed(0)
        random.seed(0)

    parameters = Selection().of(residual.eval())
    seed()
    found = GraSP(temperature=1.0).scores(residual, parameters, Objective(loss, images[:1]))
    seed()
    weights = list(parameters.values())
    first, second = (loss(images[0], factor) for factor in (draw(), draw()))
    vector = torch.autograd.grad(first, weights)
    gradients = torch.autograd.grad(second, weights, create_graph=True)
    products = torch.autograd.grad(gradients, weights, vector)
    for name, weight, product in zip(parameters, weights, products, strict=True):
        torch.testing.assert_close(found[name], weight.detach() * product, rtol=1e-4, atol=1e-7)
