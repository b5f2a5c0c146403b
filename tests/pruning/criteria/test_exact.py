"""Exact: the loss without each weight, against a loop that removes one weight at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning import suffix
from prunelit.pruning.criteria import Exact
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune

Batches = list[tuple[Tensor, Tensor]]
Linear = Callable[..., nn.Linear]
EVERYTHING = Selection(bias=True, norm=True)


def half_square(y: Tensor, target: Tensor) -> Tensor:
    return ((y - target) ** 2 / 2).sum(1).mean()


def test_two_layers_by_hand(linear: Linear) -> None:
    network = nn.Sequential(linear([[1.0, -2.0], [0.5, 3.0]]), nn.ReLU(), linear([[2.0, -1.0]]))
    # x = (1, 2): h = (1 - 4, 0.5 + 6) = (-3, 6.5), after ReLU (0, 6.5);  y = -6.5
    # t = -10: L = 3.5^2 / 2 = 6.125
    # Without the first weight h1 = -4: nothing changes. Without the second h1 = 1: y = -4.5, L = 15.125.
    # Without the third h2 = 6: y = -6, L = 8. Without the fourth h2 = 0.5: y = -0.5, L = 45.125.
    # The fifth has nothing to weigh. Without the sixth y = 0, L = 50.
    batches = [(torch.tensor([[1.0, 2.0]]).double(), torch.tensor([[-10.0]]).double())]
    objective = Objective.of_classifier(network, batches, half_square)
    scores = Exact().scores(network, Selection().of(network), objective)
    assert scores["0.weight"].tolist() == [[0.0, 9.0], [1.875, 39.0]]
    assert scores["2.weight"].tolist() == [[0.0, 43.875]]


class Several(nn.Module):
    """Grouped, dilated, strided and transposed convolutions, in-place steps, a branch, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, stride=2, padding=2, dilation=2, groups=2)
        self.same = nn.Conv2d(4, 4, (1, 3), padding="same", padding_mode="circular", bias=False)
        self.norm = nn.GroupNorm(2, 4)
        self.up = nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.line = nn.Conv1d(2, 2, 3, padding=1, padding_mode="reflect")
        self.inner = nn.Linear(3, 3)
        self.fc = nn.Linear(6, 3)
        self.unused = nn.Linear(2, 2)
        self.scale = nn.Parameter(torch.ones(6) * 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x), inplace=True)
        x = self.norm(self.same(x)) + x
        x = F.max_pool2d(self.up(x), 2)
        x = self.line(x.flatten(2))[..., :3]
        x = torch.tanh(self.inner(x)) * 3
        x += x.mean(-1, keepdim=True)
        return self.fc(x.view(x.size(0), -1) * self.scale)


def several() -> nn.Module:
    return Several().double()


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(50, 4), nn.ReLU(inplace=True), nn.Linear(4, 3)).double()


class Shared(nn.Module):
    """A layer called twice, one weight in two layers, and one used without its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.twice, self.one, self.other = (
            nn.Linear(*s) for s in ((50, 3), (3, 3), (3, 3), (3, 3))
        )
        self.other.weight = self.one.weight
        self.bare = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.twice(self.twice(self.enter(x.flatten(1))).tanh())
        return F.linear(self.other(self.one(x).tanh()), self.bare.weight)


class Untraceable(nn.Module):
    """Its path depends on the numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(50, 3, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x.flatten(1))
        return x if x.sum() > 0 else x.square()


class Crowd(nn.Module):
    """Samples that depend on each other, and a batch of fixed size."""

    def __init__(self, fixed: bool) -> None:
        super().__init__()
        self.fc, self.size = nn.Linear(50, 3, dtype=torch.float64), 6 if fixed else -1

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc(x.flatten(1))
        return x.view(self.size, 3) if self.size > 0 else x - x.mean(0)


def literal(network: nn.Module, batches: Batches, parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """The scores, one weight at a time."""

    @torch.no_grad()
    def loss() -> float:
        sums = [F.cross_entropy(network(x), y, reduction="sum") for x, y in batches]
        return float(sum(sums)) / sum(len(y) for _, y in batches)

    whole, scores = loss(), {}
    for name, parameter in parameters.items():
        weights, found = parameter.data.view(-1), []
        for i, value in enumerate(weights.tolist()):
            weights[i] = 0
            found.append(abs(loss() - whole))
            weights[i] = value
        scores[name] = torch.tensor(found, dtype=torch.float64).view(parameter.shape)
    return scores


@pytest.mark.parametrize("stack", [1, 500, 2**20])
@pytest.mark.parametrize("build", [perceptron, several, None], ids=["perceptron", "several", "residual"])
def test_one_weight_at_a_time(
    residual: nn.Module,
    images: Batches,
    build: Callable[[], nn.Module] | None,
    stack: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(suffix, "STACK", stack)
    torch.manual_seed(0)
    network = build() if build else residual
    network.eval()
    parameters = EVERYTHING.of(network)
    parameters[next(iter(parameters))].data[0] = 0  # removed before
    calls = 0
    expected = literal(network, images, parameters)

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    network.register_forward_pre_hook(count)
    scores = Exact().scores(network, parameters, Objective.of_classifier(network, images))
    for name in parameters:
        torch.testing.assert_close(scores[name], expected[name], rtol=1e-9, atol=1e-13)
    assert calls <= len(images) * (5 + len(parameters)), "the whole network runs a few times a layer only"


@pytest.mark.parametrize(
    "build",
    [lambda: Shared().double(), Untraceable, lambda: Crowd(False), lambda: Crowd(True)],
    ids=["shared", "untraceable", "crowd", "fixed"],
)
def test_networks_that_must_be_run_whole(images: Batches, build: Callable[[], nn.Module]) -> None:
    torch.manual_seed(0)
    network, images = build(), images[:1]
    parameters = EVERYTHING.of(network)
    scores = Exact().scores(network, parameters, Objective.of_classifier(network, images))
    expected = literal(network, images, parameters)
    for name in parameters:
        torch.testing.assert_close(scores[name], expected[name], rtol=1e-9, atol=1e-13)
    assert any(score.max() > 0 for score in scores.values())


def test_statistics_of_the_batch(residual: nn.Module, images: Batches) -> None:
    expected = literal(residual.train(), images, Selection().of(residual))
    objective = Objective.of_classifier(residual, images)
    scores = prune(residual, Exact(), 1.0, plan=Plan(train_mode=True), objective=objective).scores
    for name in expected:
        torch.testing.assert_close(scores[name], expected[name], rtol=1e-9, atol=1e-13)


def test_any_loss_of_any_module(residual: nn.Module, images: Batches) -> None:
    """A loss of which nothing is known, and one whose head is not this network's."""
    residual.eval()

    def loss(batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(residual(batch[0]) * 2, batch[1])

    def another(output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(output, batch[1])

    def right(output: Tensor, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(output * 2, batch[1])

    parameters = Selection(exclude=("conv1",)).of(residual)
    heads = (None, another, right)
    found = [Exact().scores(residual, parameters, Objective(loss, images, (), head=head)) for head in heads]
    for name in parameters:
        torch.testing.assert_close(found[0][name], found[2][name], rtol=1e-9, atol=1e-13)
        torch.testing.assert_close(found[1][name], found[2][name], rtol=1e-9, atol=1e-13)


def test_single_precision_resolves_small_changes(images: Batches) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Flatten(), nn.Linear(50, 4), nn.ReLU(), nn.Linear(4, 3))
    network[1].weight.data *= 1e-3
    double = nn.Sequential(*network).double()
    expected = literal(double, images, Selection().of(double))
    network.float()
    batches = [(x.float(), y) for x, y in images]
    scores = Exact().scores(network, Selection().of(network), Objective.of_classifier(network, batches))
    for name in scores:
        torch.testing.assert_close(scores[name], expected[name], rtol=1e-2, atol=5e-8)


def test_a_loss_that_is_not_finite_gives_scores_that_are_not(linear: Linear) -> None:
    network = linear([[torch.nan, 1.0]])
    batches = [(torch.ones(1, 2).double(), torch.zeros(1, dtype=torch.long))]
    objective = Objective.of_classifier(network, batches)
    assert not Exact().scores(network, Selection().of(network), objective)["weight"].isfinite().any()
