"""The time of each layer of a network at a grid of widths, measured once on this device."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.utils import skip_init

from prunelit.pruning.call import Call
from prunelit.pruning.nested import tensors_in
from prunelit.pruning.preserve import modes

SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Shares of a layer's width at which it is timed, at least one channel each."""
WARM_UP_PASSES = 2
FEWEST_PASSES = 3
MOST_PASSES = 31
SECONDS = 0.02
"""Seconds for which a layer is timed at each size; there is a least number of passes."""

Timer = Callable[[Callable[[], Any], float], float]
"""Returns the milliseconds of one call of a function; it is called for the given number of seconds."""


@torch.no_grad()
def milliseconds(
    function: Callable[[], Any], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the median time of 3 to 31 calls, after a warm-up; waits for a GPU to finish.

    After ``seconds`` no further call starts, once there were three.
    """
    for _ in range(WARM_UP_PASSES):
        _finished(function())
    taken: list[float] = []
    while len(taken) < FEWEST_PASSES or (len(taken) < MOST_PASSES and sum(taken) < seconds):
        start = clock()
        _finished(function())
        taken.append(clock() - start)
    return 1000 * median(taken)


def _finished(result: Any) -> None:
    """Wait until a GPU has computed ``result``."""
    if any(tensor.is_cuda for tensor in tensors_in(result)):
        torch.cuda.synchronize()


@dataclass(frozen=True)
class LayerTimes:
    """Milliseconds of one layer, by the sizes of the first two axes of its weight.

    Attributes:
        first, second: the sizes at which it was timed, ascending.
        times: one row for each size in ``first``, with one number for each size in ``second``.
        calls: how many times a forward pass runs the layer.
    """

    first: tuple[int, ...]
    second: tuple[int, ...]
    times: tuple[tuple[float, ...], ...]
    calls: int = 1

    def at(self, first: float, second: float) -> float:
        """Return the time with these sizes, linear between neighbors in the table and constant beyond."""
        low, high, share = _between(self.first, first)
        left, right, part = _between(self.second, second)

        def row(number: int) -> float:
            return self.times[number][left] * (1 - part) + self.times[number][right] * part

        return self.calls * (row(low) * (1 - share) + row(high) * share)

    def never_faster_when_wider(self) -> LayerTimes:
        """Return the times without the noise by which a wider layer appears faster than a narrower one."""
        table = torch.tensor(self.times, dtype=torch.float64).cummax(0)[0].cummax(1)[0]
        return replace(self, times=tuple(map(tuple, table.tolist())))


def _between(sizes: tuple[int, ...], size: float) -> tuple[int, int, float]:
    """Return the indices of the neighbors of ``size``, and its relative position between them."""
    high = min(bisect_right(sizes, size), len(sizes) - 1)
    low = max(0, high - 1)
    span = sizes[high] - sizes[low]
    return low, high, min(1.0, max(0.0, (size - sizes[low]) / span)) if span else 0.0


@dataclass
class _Seen:
    """The shape of the input of a layer, and the number of its calls."""

    shape: tuple[int, ...]
    calls: int = 0


@dataclass(frozen=True)
class _Layer:
    """A convolution or linear layer with the shape of its input."""

    module: nn.Module
    shape: tuple[int, ...]
    vary: tuple[bool, bool]

    @property
    def weight(self) -> Tensor:
        return self.module.weight  # type: ignore[return-value]

    @property
    def groups(self) -> int:
        return int(getattr(self.module, "groups", 1))

    @property
    def key(self) -> tuple[Any, ...]:
        """A key that is equal for layers that take the same time."""
        names = ("stride", "padding", "dilation", "padding_mode", "groups")
        options = tuple(str(getattr(self.module, name, None)) for name in names)
        return type(self.module), tuple(self.weight.shape), self.shape, options, self.vary

    def grid(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the sizes of the weight's first two axes to time; in groups, both shrink together."""
        sizes = self.weight.shape[:2]
        first = _sizes(sizes[0], self.vary[0], self.groups if self.groups > 1 else 1)
        second = _sizes(sizes[1], self.vary[1] and self.groups == 1, 1)
        return first, second

    def narrowed(self, first: int, second: int) -> tuple[nn.Module, Tensor]:
        """Return a layer of the same kind with these sizes, and an input for it."""
        weight = self.weight
        if not isinstance(self.module, _ConvNd):
            linear = _constant(nn.Linear, weight, second, first, bias=self.module.bias is not None)
            return linear, weight.new_ones((*self.shape[:-1], second))
        groups = self.groups
        if groups > 1:
            share = first / weight.shape[0]
            if self.vary[1]:  # positions within all groups
                second = max(1, round(share * second))
            else:  # whole groups
                groups = max(1, round(share * groups))
        turned = isinstance(self.module, _ConvTransposeNd)
        inputs, made = (first, second * groups) if turned else (second * groups, first)
        names = ("kernel_size", "stride", "padding", "dilation", "padding_mode")
        options = {name: getattr(self.module, name) for name in names}
        kind = next(kind for kind in CONVOLUTIONS if isinstance(self.module, kind))
        bias = self.module.bias is not None
        layer = _constant(kind, weight, inputs, made, groups=groups, bias=bias, **options)
        channels_at = 1 - (self.module.weight.ndim - len(self.shape))  # 0 for an input without a batch
        shape = (*self.shape[:channels_at], inputs, *self.shape[channels_at + 1 :])
        return layer, weight.new_ones(shape)


CONVOLUTIONS: tuple[Any, ...] = (
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)


def _sizes(size: int, varies: bool, multiple: int) -> tuple[int, ...]:
    if not varies:
        return (size,)
    shares = {max(1, round(share * size / multiple)) * multiple for share in SHARES}
    return tuple(sorted(min(size, each) for each in shares))


def _constant(kind: Any, weight: Tensor, *sizes: int, **options: Any) -> nn.Module:
    """Return a layer on the device of ``weight``, all of one number: no random numbers are drawn."""
    layer: nn.Module = skip_init(kind, *sizes, **options, device=weight.device, dtype=weight.dtype)
    for parameter in layer.parameters():
        nn.init.constant_(parameter, 0.01)
    return layer.eval()


def layer_times(
    network: nn.Module,
    call: Call,
    varying: Collection[tuple[str, int]],
    timer: Timer = milliseconds,
) -> dict[str, LayerTimes]:
    """Return the times of all convolutions and linear layers that a forward pass calls, by weight.

    Layers that are alike are timed once.

    Args:
        network: left as it was; it runs once, in evaluation mode.
        call: the inputs for which it is timed.
        varying: name and axis of the weights that lose units.
        timer: measures one layer.
    """
    found: dict[str, LayerTimes] = {}
    known: dict[tuple[Any, ...], LayerTimes] = {}
    for name, (module, seen) in _called_layers(network, call).items():
        layer = _Layer(module, seen.shape, ((name, 0) in varying, (name, 1) in varying))
        if layer.key not in known:
            known[layer.key] = _timed(layer, timer).never_faster_when_wider()
        found[name] = replace(known[layer.key], calls=seen.calls)
    return found


def _timed(layer: _Layer, timer: Timer) -> LayerTimes:
    """Time a layer at each point of its grid, the widest first."""
    first, second = layer.grid()
    times = {}
    for rows in reversed(first):
        for columns in reversed(second):
            narrow, inputs = layer.narrowed(rows, columns)
            times[rows, columns] = timer(partial(narrow, inputs), SECONDS)
    return LayerTimes(first, second, tuple(tuple(times[r, c] for c in second) for r in first))


@torch.no_grad()
def _called_layers(network: nn.Module, call: Call) -> dict[str, tuple[nn.Module, _Seen]]:
    """Return the layers that a forward pass calls, with their inputs, by the name of their weight."""
    seen: dict[str, tuple[nn.Module, _Seen]] = {}
    hooks = []

    def watch(name: str, module: Any) -> Any:
        def note(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            seen.setdefault(name, (module, _Seen(tuple(inputs[0].shape))))[1].calls += 1

        return module.register_forward_pre_hook(note)

    for name, module in network.named_modules():
        if isinstance(module, (*CONVOLUTIONS, nn.Linear)):
            hooks.append(watch(f"{name}.weight" if name else "weight", module))
    try:
        with modes(network):
            call.run(network.eval())
    finally:
        for hook in hooks:
            hook.remove()
    return seen
