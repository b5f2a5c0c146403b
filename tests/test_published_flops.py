"""Pruned VGG16's FLOPs against published ones, by the same code as ``benchmarks/flops_table.py``."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest
import torch

from prunelit.pruning.flops import count_flops
from prunelit.training.models.vgg import VGG


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[1] / "benchmarks" / "flops_table.py"))


def test_vgg16_weights_and_operations() -> None:
    network = VGG(num_classes=10, input_shape=(3, 32, 32))
    flops = count_flops(network, torch.zeros(1, 3, 32, 32))
    weights = [network.get_parameter(name).numel() for name in flops.by_parameter]
    assert sum(weights) == 14_715_584
    assert sum(flops.by_parameter.values()) == 313_201_664
    assert flops.biased_outputs == 276_490


def test_rand_mag_and_one_round_synflow_as_published(script: dict[str, Any]) -> None:
    cells = list(script["table"]())
    assert len(cells) == 3 * 6
    assert [cell for cell in cells if not cell.within] == []


@pytest.mark.slow
def test_snip_and_grasp_as_published(script: dict[str, Any], real_data: Path) -> None:
    cells = list(script["table"](real_data / "cifar10"))
    assert len(cells) == 5 * 6
    assert [cell for cell in cells if not cell.within] == []
