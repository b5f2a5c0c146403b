"""A latency is reached in rounds, with training in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn

from prunelit import BadRequest, Budget, Mag, Pruning
from prunelit.pruning.coupling import latency_costs
from stock import Stranger, loader, trainer


def by_size(function: Callable[[], Any], _: float) -> float:
    """Stand for a device on which each parameter takes a microsecond."""
    owner = function.func if isinstance(function.func, nn.Module) else function.args[0]
    function()
    return sum(p.numel() for p in owner.parameters()) / 1000


class Noted(Callback):
    """Notes the measured latency after each pruning."""

    def __init__(self) -> None:
        self.latencies: list[float] = []

    def on_after_pruning(self, trainer: Any, pl_module: Any, pruning: Pruning) -> None:
        assert pruning.outcome is not None
        assert pruning.outcome.latency is not None
        self.latencies.append(pruning.outcome.latency.measured)


@pytest.mark.parametrize(("schedule", "halfway"), [("exponential", 0.5**0.5), ("linear", 0.75)])
def test_each_round_meets_its_part_of_the_way(
    schedule: str, halfway: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency_costs, "milliseconds", by_size)
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(512, 10)
    )
    dense, noted = sum(p.numel() for p in network.parameters()) / 1000, Noted()
    pruning = Pruning(
        Mag(),
        latency=dense / 2,
        when="epoch",
        rounds=2,
        pre_epochs=0,
        schedule=schedule,
        cut=True,
        network="backbone",
    )
    trainer(pruning, noted, max_epochs=2).fit(Stranger(network), loader())
    first, last = noted.latencies
    assert 0.9 * halfway < first / dense <= halfway
    assert 0.9 * 0.5 < last / dense <= 0.5
    assert sum(p.numel() for p in network.parameters()) / 1000 == last


def test_without_training_in_between_there_is_one_pruning() -> None:
    assert len(Pruning(Mag(), latency=8, rounds=3).steps) == 1
    assert len(Pruning(Mag(), latency=8, rounds=3, when="epoch").steps) == 3
    assert Budget.of_latency(8) == Pruning(Mag(), latency=8).budget


def test_a_number_of_rounds_that_depends_on_the_latency_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"^schedule=constant: "):
        Pruning(Mag(), latency=8, when="epoch", schedule="constant")
