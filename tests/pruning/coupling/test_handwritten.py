"""Networks written by hand lose half of the units that can be removed, and compute the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attentions
import handwritten
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.coupled_units import coupled_units
from prunelit.pruning.coupling.groups import CoupledUnits, Kept
from prunelit.pruning.coupling.trial import cut_what_fits, masked_copy, outputs
from prunelit.pruning.parameters import layer_of

CUT = {**handwritten.CUT, **attentions.CUT}
SHAPES = {**handwritten.SHAPES, **attentions.SHAPES}


def half(coupled: CoupledUnits) -> Kept:
    return {g.name: torch.rand(g.units).argsort() < (g.units + 1) // 2 for g in coupled.prunable}


@pytest.mark.parametrize("kind", CUT, ids=lambda kind: kind.__name__)
def test_half_of_the_units_go(kind: type[nn.Module]) -> None:
    torch.manual_seed(0)
    network = kind().eval()
    call = Call.of(torch.randn(2, *SHAPES[kind]))
    coupled = coupled_units(network, call)

    done = cut_what_fits(
        network,
        coupled,
        half(coupled),
        call,
        lambda kept: outputs(masked_copy(network, coupled.groups, kept), call),
    )

    assert not done.left_whole
    names = [name.partition("[")[0] for name in done.kept]
    assert {layer_of(name) or name for name in names} == CUT[kind]
    other = Call.of(torch.randn(3, *SHAPES[kind]))
    masked = outputs(masked_copy(network, coupled.groups, done.kept), other)
    for a, b in zip(masked, outputs(done.network, other), strict=True):
        assert float((a - b).abs().max()) < 1e-5 * float(a.abs().max())
