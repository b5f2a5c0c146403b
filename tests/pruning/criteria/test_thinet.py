"""Greedy channel selection: against the algorithm as it is written, and by hand."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from prunelit import BadRequest, Objective, Plan, Selection, ThiNet, prune
from prunelit.pruning.contributions import gram_matrices, removal_order, rescaling, sampled_contributions
from prunelit.training.models.resnet import CifarResNet

WHOLE = Selection(bias=True, norm=True)


def literal_order(x: Tensor) -> list[int]:
    """Remove the channel for which the removed ones' summed square is least, the first of equals; repeat."""
    removed: list[int] = []
    while len(removed) < x.shape[1]:
        best, least = -1, float("inf")
        for channel in range(x.shape[1]):
            if channel not in removed:
                value = float(x[:, [*removed, channel]].sum(1).square().sum())
                if value < least:
                    best, least = channel, value
        removed.append(best)
    return removed


def test_greedy_order_by_hand() -> None:
    """Columns (1, 2), (2, 0), (-2, -2) of squares 5, 4, 8; then the third leaves 4, the first 13."""
    x = torch.tensor([[1.0, 2.0, -2.0], [2.0, 0.0, -2.0]])
    assert removal_order(x.T @ x) == [1, 2, 0]
    # Equal ones go in their order, and channels that add nothing before all others.
    assert removal_order(torch.diag(torch.tensor([1.0, 0.0, 1.0, 0.0]))) == [1, 3, 0, 2]


@pytest.mark.parametrize("seed", range(20))
def test_the_same_order_as_the_literal_algorithm(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    channels = int(torch.randint(1, 14, (), generator=generator))
    # Small whole numbers tie often, and their sums are exact.
    tied = torch.randint(-2, 3, (9, channels), generator=generator).double()
    assert removal_order(tied.T @ tied) == literal_order(tied)
    spread = torch.randn(40, channels, generator=generator, dtype=torch.float64)
    assert removal_order(spread.T @ spread) == literal_order(spread)


LAYERS = {
    "3x3": (lambda: nn.Conv2d(3, 4, 3), (3, 6, 7)),
    "strided": (lambda: nn.Conv2d(3, 2, (3, 2), stride=(2, 3), padding=(1, 2)), (3, 7, 5)),
    "dilated": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding="same", padding_mode="circular"), (2, 6, 6)),
    "1d": (lambda: nn.Conv1d(3, 4, 5, padding=2, padding_mode="reflect"), (3, 8)),
    "3d": (lambda: nn.Conv3d(2, 3, 2, stride=2, bias=False), (2, 4, 5, 6)),
    "linear": (lambda: nn.Linear(3, 5), (3,)),
    "sequence": (lambda: nn.Linear(3, 5), (4, 3)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_contributions_are_what_each_channel_adds_somewhere(kind: str) -> None:
    """Each row is the change of one output of its sample when one channel at a time is set to 0."""
    torch.manual_seed(0)
    make, shape = LAYERS[kind]
    layer = make().double()
    inputs = torch.randn(5, *shape, dtype=torch.float64)
    axis = inputs.ndim - 1 if isinstance(layer, nn.Linear) else 1
    channels = inputs.shape[axis]
    rows = sampled_contributions(layer, inputs, channels, positions=6)
    assert rows.shape == (30, channels)
    whole, lost = layer(inputs), []
    for channel in range(channels):
        without = inputs.clone()
        without.select(axis, channel).zero_()
        lost.append(whole - layer(without))
    every = torch.stack(lost, -1).flatten(1, -2)
    distances = (rows.view(5, 6, 1, channels) - every[:, None]).abs().amax(-1)
    assert distances.amin(2).max() < 1e-12
    assert distances.argmin(2).flatten().unique().numel() > 4, "places are drawn anew"


def test_contributions_of_blocks_behind_a_flatten() -> None:
    layer = nn.Linear(6, 1, dtype=torch.float64)
    layer.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], dtype=torch.float64)
    inputs = torch.tensor([[1.0, 1.0, 0.0, 2.0, -1.0, 1.0]], dtype=torch.float64)
    assert sampled_contributions(layer, inputs, 3, positions=2).tolist() == [[3.0, 8.0, 1.0]] * 2


def two_layers(outputs: list[list[float]]) -> tuple[nn.Sequential, Objective]:
    """Neurons that pass on the inputs 0, 1 and 2, and one output of all three; two samples."""
    network = nn.Sequential(nn.Linear(3, 3), nn.ReLU(), nn.Linear(3, 1)).double()
    network[0].weight.data = torch.eye(3, dtype=torch.float64)
    network[0].bias.data = torch.full((3,), 1e-9, dtype=torch.float64)
    network[2].weight.data = torch.tensor([[1.0, -1.0, 2.0]], dtype=torch.float64)
    inputs = torch.tensor(outputs, dtype=torch.float64)
    return network, Objective.of_classifier(network, [(inputs, inputs[:, 0])], lambda y, _: y.mean())


def test_by_hand() -> None:
    """Contributions (3, 1), (-3, -1) and (2, 2): of squares 10, 10 and 8 the last goes first; then the
    second, since (-3, -1) + (2, 2) leaves 2 and (3, 1) + (2, 2) leaves 34; the first is kept.
    """
    network, objective = two_layers([[3.0, 3.0, 1.0], [1.0, 1.0, 1.0]])
    scores = ThiNet().scores(network, WHOLE.of(network), objective)
    assert scores["0.weight"].tolist() == [[2.0] * 3, [1.0] * 3, [0.0] * 3]
    assert scores["0.bias"].tolist() == [2.0, 1.0, 0.0]
    outcome = prune(network, ThiNet(), 1 / 3, objective=objective)
    assert outcome.masks["0.bias"].tolist() == [True, False, False]
    assert outcome.masks["0.weight"].all(1).tolist() == outcome.masks["0.weight"].any(1).tolist()
    assert outcome.masks["2.weight"].all(), "the last layer is never pruned"
    assert outcome.masks["2.bias"].all()


@pytest.mark.parametrize("seed", range(5))
def test_least_squares_factors(seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.randn(50, 8, dtype=torch.float64)
    kept = torch.tensor([1, 0, 1, 1, 0, 0, 1, 1], dtype=torch.bool)
    factors = rescaling(x.T @ x, kept)
    expected = torch.linalg.lstsq(x[:, kept], x.sum(1, keepdim=True)).solution[:, 0]
    torch.testing.assert_close(factors[kept], expected, rtol=1e-10, atol=1e-10)
    assert factors[~kept].eq(0).all()


def test_a_channel_that_never_fires_keeps_its_weights() -> None:
    x = torch.randn(20, 3, dtype=torch.float64)
    x[:, 1] = 0
    assert rescaling(x.T @ x, torch.tensor([True, True, False]))[1] == 1
    assert rescaling(torch.zeros(2, 2), torch.tensor([True, False])).tolist() == [1, 0]
    assert rescaling(torch.eye(2), torch.tensor([False, False])).tolist() == [0, 0]


def network_and_batches() -> tuple[nn.Sequential, Objective]:
    torch.manual_seed(2)
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 12, 3), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(48, 16), nn.ReLU(), nn.Linear(16, 4),
    ).double()  # fmt: skip
    images, labels = torch.rand(24, 1, 8, 8, dtype=torch.float64), torch.arange(24) % 4
    return network, Objective.of_classifier(network, [(images[:16], labels[:16]), (images[16:], labels[16:])])


def test_rescaling_multiplies_the_next_layer_by_channel_and_brings_its_outputs_closer() -> None:
    network, objective = network_and_batches()
    inputs = torch.cat([images for images, _ in objective.batches])
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    before = network[:4].eval()(inputs).detach()
    plan, errors = Plan(rounds=2), []
    for rescale in (False, True):
        network.load_state_dict(start, strict=False)
        network.__dict__.pop("_prunelit_masks", None)
        masks = prune(network, ThiNet(50, rescale), 0.5, plan=plan, objective=objective).masks
        kept = masks["1.weight"]
        assert int(kept.sum()) == 4
        with torch.no_grad():
            # One filter's rows that are still there: what reaches it was pruned, and it is not.
            rows = masks["3.bias"]
            errors.append(float((network[:4](inputs) - before)[:, rows].square().sum()))
        factors = network[3].weight.detach()[rows][:, kept] / start["3.weight"][rows][:, kept]
        assert factors.std((0, 2, 3)).max() < 1e-9, "one factor a channel"
        assert torch.equal(factors, torch.ones_like(factors)) != rescale
        assert torch.equal(network[0].weight[kept], start["0.weight"][kept]), "the first layer follows none"
    assert errors[1] < errors[0]


def test_every_layer_with_one_next_keeps_its_share() -> None:
    network, objective = network_and_batches()
    masks = prune(network, ThiNet(), 0.4, objective=objective).masks
    kept = {name: int(mask.sum()) for name, mask in masks.items()}
    first = {"0.weight": 3 * 9, "0.bias": 3, "1.weight": 3, "1.bias": 3}
    second = {"3.weight": 5 * 72, "3.bias": 5, "7.weight": 6 * 48, "7.bias": 6}
    assert kept == first | second | {"9.weight": 64, "9.bias": 4}


def test_layers_that_enter_a_sum_stay_whole_and_it_is_said_why(caplog: pytest.LogCaptureFixture) -> None:
    network = CifarResNet(4, (1, 8, 8), depth=8)
    images, labels = torch.rand(8, 1, 8, 8), torch.arange(8) % 4
    caplog.set_level(logging.INFO)
    objective = Objective.of_classifier(network, [(images, labels)])
    masks = prune(network, ThiNet(), 0.5, objective=objective).masks
    pruned = [name for name, mask in masks.items() if not mask.all()]
    parts = ("conv1.weight", "bn1.weight", "bn1.bias")
    assert pruned == [f"stage{i}.0.{part}" for i in (1, 2, 3) for part in parts]
    assert "stage2.0.conv2 keeps all its units: its outputs go through Add" in caplog.messages


def test_gram_matrices_add_up_over_batches_and_processes() -> None:
    """A process without a batch finds the same layers and adds nothing."""
    network, objective = network_and_batches()
    channels = {"3": 8, "7": 12}
    torch.manual_seed(0)
    whole = gram_matrices(network, channels, objective, 3)
    parts = []
    for place, batch in enumerate(objective.batches):
        torch.manual_seed(0)  # every process has the same random state
        own = Objective(objective.loss, [batch], (), places=[place])
        parts.append(gram_matrices(network, channels, own, 3))
    for name, gram in whole.items():
        torch.testing.assert_close(gram, parts[0][name] + parts[1][name])
    idle = Objective(objective.loss, [], (), first=objective.batches[0])
    groups = ThiNet().groups(network, WHOLE.of(network), idle)
    assert [units.layer for units in groups.units] == ["0", "3", "7"]
    assert all(gram.eq(0).all() for gram in gram_matrices(network, channels, idle, 3).values())


def test_infinite_inputs_name_the_layer_and_wrong_requests_are_refused() -> None:
    network, objective = two_layers([[3.0, float("inf"), 1.0], [1.0, 1.0, 1.0]])
    with pytest.raises(ArithmeticError, match=r"layer 0\.weight are not finite"):
        prune(network, ThiNet(), 0.5, objective=objective)
    with pytest.raises(BadRequest, match="positions=0"):
        ThiNet(positions=0)
