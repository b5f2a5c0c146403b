"""Layers behind removed units give their former outputs again, as nearly as least squares allow."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from prunelit import Mag, Objective, Plan, Selection, prune
from prunelit.pruning.layer_rows import POSITIONS, rows_of_layer
from prunelit.pruning.least_squares import Training, repair_layers

BATCHES = [torch.randn(12, 4, 6, 6, generator=torch.Generator().manual_seed(n)) for n in range(3)]


def network_of(*layers: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(*layers).eval()


def pruned(network: nn.Module, ridge: float = 1e-6) -> tuple[nn.Module, nn.Module, list[str]]:
    """Return the network with half of its units at 0, the same after the repair, and what was too wide."""
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    objective = Objective(inputs=(BATCHES[0],))
    unit = Selection(granularity="unit")
    masks = prune(network, Mag(), 0.5, selection=unit, plan=Plan(scope="layer"), objective=objective).masks
    without = copy.deepcopy(network)
    too_wide = repair_layers(network, before, masks, Training(network, BATCHES, ridge))
    for name, parameter in network.named_parameters():
        if name in masks:
            assert not parameter[~masks[name]].any(), name
    return without, network, too_wide


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 6, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(4, 6, (3, 1), padding="same", dilation=2, padding_mode="reflect"),
        nn.Conv2d(4, 6, 1, groups=2),
    ],
)
def test_rows_times_the_weight_are_the_outputs(conv: nn.Conv2d) -> None:
    x = BATCHES[0]
    rows, outputs = rows_of_layer(conv, x, conv(x), torch.Generator())
    inputs, wanted = rows.chunk(conv.groups, 1), outputs.chunk(conv.groups, 1)
    weights = conv.weight.flatten(1).chunk(conv.groups)
    found = torch.cat([a @ w.T for a, w in zip(inputs, weights, strict=True)], 1)
    found = found if conv.bias is None else found + conv.bias
    torch.testing.assert_close(found, torch.cat(wanted, 1), rtol=1e-4, atol=1e-5)
    assert len(rows) == len(x) * min(POSITIONS, conv(x)[0, 0].numel())


def test_a_linear_layer_is_the_solution_of_the_normal_equations() -> None:
    dense = network_of(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    without, repaired, _ = pruned(copy.deepcopy(dense), ridge=1e-3)
    x = torch.cat([batch.reshape(-1, 6) for batch in BATCHES]).double()
    hidden = without.double()[1](without[0](x))
    live = hidden.abs().sum(0) > 0
    assert int(live.sum()) == 4
    ones = torch.cat([hidden[:, live], torch.ones(len(x), 1)], 1)
    errors = dense.double()(x) - without(x)
    penalty = 1e-3 * hidden[:, live].square().mean() * len(x) * torch.eye(5, dtype=torch.float64)
    penalty[4, 4] = 0  # the bias is free
    change = torch.linalg.solve(ones.T @ ones + penalty, ones.T @ errors).T
    torch.testing.assert_close(
        repaired[2].weight[:, live].double(), without[2].weight[:, live] + change[:, :4], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(
        repaired[2].bias.double(), without[2].bias + change[:, 4], rtol=1e-4, atol=1e-5
    )


class Twice(nn.Module):
    """Convolutions around a grouped one, normalised, the last of which runs twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(4, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.groups, self.again = nn.Conv2d(16, 16, 3, groups=2), nn.Conv2d(16, 16, 1, bias=False)
        self.fc = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.groups(self.norm(self.first(x)).relu()).relu()
        return self.fc(self.again(self.again(x).relu()).mean((2, 3)))


def test_outputs_come_nearer_to_those_of_the_dense_network_on_other_images() -> None:
    torch.manual_seed(0)
    dense = Twice().eval()
    without, repaired, _ = pruned(copy.deepcopy(dense), ridge=1e-2)
    x = torch.randn(50, 4, 6, 6)
    errors = [(network(x) - dense(x)).square().mean().item() for network in (without, repaired)]
    assert errors[1] < 0.5 * errors[0]


def test_units_that_are_copies_of_others_are_made_up_for_exactly() -> None:
    dense = network_of(nn.Conv2d(4, 8, 3), nn.ReLU(True), nn.Conv2d(8, 3, 3), nn.ReLU(True))
    with torch.no_grad():  # the second half of the filters are smaller copies of the first
        dense[0].weight[4:], dense[0].bias[4:] = 0.5 * dense[0].weight[:4], 0.5 * dense[0].bias[:4]
    without, repaired, _ = pruned(copy.deepcopy(dense), ridge=1e-9)
    x = torch.randn(5, 4, 6, 6)
    assert not torch.allclose(without(x), dense(x), atol=1e-2)
    torch.testing.assert_close(repaired(x), dense(x), rtol=1e-3, atol=1e-4)


def test_frozen_layers_and_layers_with_too_many_inputs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = network_of(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    monkeypatch.setattr("prunelit.pruning.least_squares.MOST_INPUTS", 4)
    without, repaired, too_wide = pruned(dense)
    assert too_wide == ["2", "4"]
    assert all(torch.equal(a, b) for a, b in zip(without.parameters(), repaired.parameters(), strict=True))
