"""The cost of a network with some of its units removed: parameters and multiply-accumulates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunelit.budget import Quantity
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.costs import parameters_and_macs_after
from prunelit.pruning.coupling.groups import CoupledUnits, Kept
from prunelit.pruning.coupling.trial import cut_what_fits
from prunelit.pruning.coupling.without_units import outputs_without
from prunelit.pruning.flops import count_flops
from prunelit.pruning.masks import count_all

Widths = Mapping[str, int]
"""The number of units kept, by the group's name; groups that are missing keep all units."""


@dataclass(frozen=True)
class _Axis:
    """One axis of a parameter: its number and size, and the positions that each unit of a group has on it."""

    number: int
    size: int
    per_unit: dict[str, float]

    def left(self, widths: Widths, units: Mapping[str, int]) -> float:
        """Return how many positions are left."""
        return self.size - sum(
            each * (units[group] - widths[group]) for group, each in self.per_unit.items() if group in widths
        )


class Costs:
    """The cost of ``network`` with fewer units.

    Parameters are counted exactly. The multiply-accumulates of a layer are proportional to the size of its
    weight; all others, such as those of normalisation and of products of activations, are a share of the
    dense network's that :meth:`measure` determines.

    Args:
        network: dense, or pruned with masks.
        coupled: its groups.
        call: a batch of inputs.
        quantity: ``flops`` or ``params``.

    Raises:
        ValueError: the multiply-accumulates cannot be counted; one line.
    """

    def __init__(self, network: nn.Module, coupled: CoupledUnits, call: Call, quantity: Quantity) -> None:
        self.network, self.coupled, self.call, self.quantity = network, coupled, call, quantity
        self.parameters: dict[str, Tensor] = dict(network.named_parameters())
        self.units = {group.name: group.units for group in coupled.prunable}
        self._axes = self._axes_of_parameters()
        self._rest, self._rest_share = 0.0, 1.0
        if quantity == "flops":
            counted = count_flops(network, first_of(call))
            self._weights = {n: float(c) for n, c in counted.by_parameter.items() if n in self.parameters}
            self._rest = counted.total - math.fsum(self._weights.values())
            self.dense = float(counted.total)
            self._all_followed = self._followed({}) == counted.total
        else:
            self._weights = {name: float(p.numel()) for name, p in self.parameters.items()}
            self.dense = float(count_all(self.parameters))

    def _axes_of_parameters(self) -> dict[str, list[_Axis]]:
        found: dict[str, dict[int, _Axis]] = {}
        for group in self.coupled.prunable:
            for member in group.members:
                if member.name in self.parameters:
                    size = self.parameters[member.name].shape[member.axis]
                    axis = found.setdefault(member.name, {}).setdefault(
                        member.axis, _Axis(member.axis, size, {})
                    )
                    more = member.positions / group.units
                    axis.per_unit[group.name] = axis.per_unit.get(group.name, 0.0) + more
        return {name: list(axes.values()) for name, axes in found.items()}

    def of(self, widths: Widths) -> float:
        """Return the cost with ``widths``."""
        layers = math.fsum(
            cost * math.prod(a.left(widths, self.units) / a.size for a in self._axes.get(name, ()))
            for name, cost in self._weights.items()
        )
        return layers + self._rest * self._rest_share

    def size_left(self, name: str, number: int, widths: Widths) -> float:
        """Return the size of one axis of a parameter with ``widths``."""
        axis = next((a for a in self._axes.get(name, ()) if a.number == number), None)
        return self.parameters[name].shape[number] if axis is None else axis.left(widths, self.units)

    def varying(self) -> set[tuple[str, int]]:
        """Return name and axis of the parameters that lose positions with the units."""
        return {(name, axis.number) for name, axes in self._axes.items() for axis in axes}

    def measure(self, kept: Kept) -> float:
        """Return the cost with these units, operation by operation, and correct :meth:`of` by it."""
        if self.quantity == "params":
            return self.of(widths_of(kept))
        found = float(self._followed(kept) if self._all_followed else self._of_a_cut_copy(kept))
        if self._rest:
            self._rest_share += (found - self.of(widths_of(kept))) / self._rest
        return found

    def _followed(self, kept: Kept) -> int:
        """Compute the multiply-accumulates from the operations, without running them."""
        sizes = {name: tuple(p.shape) for name, p in self.parameters.items()}
        return parameters_and_macs_after(self.coupled, kept, sizes)[1]

    def _of_a_cut_copy(self, kept: Kept) -> int:
        """Measure the multiply-accumulates of a copy that is cut."""
        return count_flops(self.cut_copy(kept), first_of(self.call)).total

    def cut_copy(self, kept: Kept) -> nn.Module:
        """Return a copy of the network from which units are cut out."""

        def reference(chosen: Kept) -> list[Tensor]:
            return outputs_without(self.network, self.coupled, chosen, self.call)

        some = {name: mask for name, mask in kept.items() if not bool(mask.all())}
        return cut_what_fits(self.network, self.coupled, some, self.call, reference).network


def widths_of(kept: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number of units kept of each group."""
    return {name: int(mask.sum()) for name, mask in kept.items()}


def first_of(call: Call) -> Call:
    """Return the call with the first input of the batch."""
    return call.map(lambda tensor: tensor[:1] if isinstance(tensor, torch.Tensor) and tensor.ndim else tensor)
