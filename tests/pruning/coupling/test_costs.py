"""What is predicted for a smaller network is what it has."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import attentions
from couplings import SHAPES, Attention, Decoder, Dense, Grouped, Residual, settled
from prunelit import coupled_units
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.costs import parameters_and_macs_after
from prunelit.pruning.coupling.trial import cut_what_fits, masked_copy, outputs
from prunelit.pruning.flops import count_flops

BY_HAND = (attentions.EinsumAttention, attentions.TorchAttention, attentions.MultiQuery)
SHAPE_OF = {**SHAPES, **attentions.SHAPES}


@pytest.mark.parametrize("kind", [Residual, Dense, Grouped, Decoder, Attention, *BY_HAND])
def test_parameters_and_multiply_accumulates(kind: type[nn.Module]) -> None:
    network, x = settled(kind), torch.randn(2, *SHAPE_OF[kind])
    coupled = coupled_units(network, x)
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters()}
    kept = {group.name: torch.arange(group.units) % 2 == 0 for group in coupled.prunable}

    def masked(chosen: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return outputs(masked_copy(network, coupled.groups, chosen), Call.of(x))

    small = cut_what_fits(network, coupled, kept, Call.of(x), masked).network
    for chosen, other in (({}, network), (kept, small)):
        found = parameters_and_macs_after(coupled, chosen, sizes)
        assert found[0] == sum(p.numel() for p in other.parameters())
        assert found[1] == count_flops(other, x[:1]).total
