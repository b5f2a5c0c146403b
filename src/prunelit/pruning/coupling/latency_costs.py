"""The latency of a network with some of its units removed: predicted from a table, and measured."""

from __future__ import annotations

import math
from functools import partial

from torch import nn

from prunelit.pruning.call import Call
from prunelit.pruning.coupling.cost_of_widths import Costs, Widths, first_of, widths_of
from prunelit.pruning.coupling.groups import CoupledUnits, Kept
from prunelit.pruning.coupling.latency_table import Timer, layer_times, milliseconds
from prunelit.pruning.preserve import modes

SECONDS = 0.5
"""Seconds for which a whole network is timed; there is a least number of passes."""


class LatencyCosts(Costs):
    """Milliseconds that a forward pass of one input takes with fewer units, on the network's device.

    The times of convolutions and linear layers at some widths are measured once. Their sum at other widths
    is multiplied by the ratio of the measured time of the whole network to the sum of its layers, so that
    all other operations count in proportion.

    Args:
        network: dense, or pruned with masks.
        coupled: its groups.
        call: a batch of inputs; the first is used.
        timer: measures layers and networks; by default :func:`milliseconds`.

    Raises:
        ValueError: no convolution or linear layer is called as a module; one line.
    """

    def __init__(
        self, network: nn.Module, coupled: CoupledUnits, call: Call, timer: Timer | None = None
    ) -> None:
        super().__init__(network, coupled, call, "params")
        self._timer, self._one = timer or milliseconds, first_of(call)
        self.table = layer_times(network, self._one, self.varying(), self._timer)
        if not self.table:
            raise ValueError(f"{type(network).__name__} calls no convolution or linear layer as a module")
        self._measured: dict[tuple[tuple[str, int], ...], float] = {}
        self._scale = 1.0
        self.dense = self._passes(network)
        self._scale = self._dense_scale = self.dense / self.of({})

    def of(self, widths: Widths) -> float:
        """Return the predicted milliseconds with ``widths``."""
        return self._scale * math.fsum(
            times.at(self.size_left(name, 0, widths), self.size_left(name, 1, widths))
            for name, times in self.table.items()
        )

    def predicted(self, kept: Kept) -> float:
        """Return the prediction of the table, without the corrections by measurements."""
        return self.of(widths_of(kept)) * self._dense_scale / self._scale

    def measure(self, kept: Kept) -> float:
        """Measure the time of a copy that is cut, and correct :meth:`of` with it."""
        if all(bool(mask.all()) for mask in kept.values()):
            return self.dense
        key = tuple(sorted(widths_of(kept).items()))
        if key not in self._measured:
            self._measured[key] = self._passes(self.cut_copy(kept))
        self._scale *= self._measured[key] / self.of(widths_of(kept))
        return self._measured[key]

    def _passes(self, network: nn.Module) -> float:
        with modes(network):
            network.eval()
            return self._timer(partial(self._one.run, network), SECONDS)
