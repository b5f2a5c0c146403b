"""The groups of a network, checked by a trial cut: groups that cannot be cut stay whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.groups import CoupledUnits, Kept, found_groups
from prunelit.pruning.coupling.trial import cut_what_fits
from prunelit.pruning.coupling.without_units import outputs_without


def coupled_units(network: nn.Module, example: Any, cut_normalized: bool = False) -> CoupledUnits:
    """Return which units of which parameters of ``network`` can only be removed together.

    Half of the units of every group are cut out of a copy, and its outputs are compared with those of
    a copy in which their parameters are 0; groups that do not stand the test are left whole and say why.

    Args:
        network: any module that ``torch.export`` takes; it is left as it was.
        example: a batch of inputs on the network's device, a tuple of positional arguments, or a ``Call``.
        cut_normalized: whether units that can be cut out, but not masked, are prunable too.

    Raises:
        NotTraced: ``torch.export`` does not take it (a ``ValueError`` of one line).
    """
    call = Call.of(example)
    coupled = replace(found_groups(network, call), cut_normalized=cut_normalized)
    kept = _random_halves(coupled)

    def reference(chosen: Kept) -> Any:
        return outputs_without(network, coupled, chosen, call)

    done = cut_what_fits(network, coupled, kept, call, reference)
    groups = tuple(
        replace(g, why_not=done.left_whole[g.name]) if g.name in done.left_whole else g
        for g in coupled.groups
    )
    return replace(coupled, groups=groups)


def _random_halves(coupled: CoupledUnits) -> Kept:
    """Return half of the units of each group that can be pruned."""
    generator = torch.Generator().manual_seed(0)
    kept = {}
    for group in coupled.prunable:
        kept[group.name] = torch.zeros(group.units, dtype=torch.bool)
        chosen = torch.randperm(group.units, generator=generator)[: (group.units + 1) // 2]
        kept[group.name][chosen] = True
    return kept
