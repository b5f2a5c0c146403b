"""Without a GPU the latency of 2:4 products is unknown, and one warning says so."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from prunelit import Mag, Plan, prune
from prunelit.training.measuring.semi_structured import layers_with_pattern, semi_structured


def test_a_pattern_without_a_gpu_is_null_with_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    masks = prune(network, Mag(), None, plan=Plan(pattern="2:4")).masks
    assert layers_with_pattern(network, masks) == ["0"]
    assert semi_structured(network, masks) is None
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "2:4" in lines[0]
    assert "0.weight" in lines[0]


def test_weights_that_fit_the_pattern_by_chance_are_not_reported(capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(64, 32))
    masks = prune(network, Mag(), 0.002).masks
    assert layers_with_pattern(network, masks) == ["0"]
    assert semi_structured(network, masks) is None
    assert not capsys.readouterr().err
