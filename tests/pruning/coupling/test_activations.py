"""Units are followed through every activation of torch, also if it works in place."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn
from torch.nn.modules import activation

from prunelit import coupled_units, explain

SHARED = ("GLU", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin", "LogSoftmax")
"""Those whose results depend on several elements."""
KINDS = sorted({*activation.__all__} - {*SHARED})


@pytest.mark.parametrize("name", KINDS)
def test_units_are_followed(name: str) -> None:
    kind = getattr(activation, name)
    given = (0.1, 0.0) if name == "Threshold" else ()
    in_place = "inplace" in inspect.signature(kind).parameters
    for options in ({}, {"inplace": True}) if in_place else ({},):
        network = nn.Sequential(nn.Conv2d(3, 4, 3), kind(*given, **options), nn.Conv2d(4, 2, 3)).eval()
        images = torch.randn(2, 3, 6, 6)
        assert [group.units for group in coupled_units(network, images).prunable] == [4], options
        assert "not followed" not in str(explain(network, images))
