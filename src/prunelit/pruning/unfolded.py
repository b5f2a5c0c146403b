"""The signal of a linear layer or a convolution as columns, with which the layer is a matrix product."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F


class Unfolded(Protocol):
    """The geometry of one layer's call.

    With M the number of positions in all samples, ``columns`` are of shape (groups, inputs, M) and a
    ``product`` of shape (outputs, M).
    """

    def columns(self, signal: Tensor) -> Tensor:
        """Return what each output position sees."""

    def output(self, product: Tensor) -> Tensor:
        """Return the product in the layer's shape."""

    def product(self, output: Tensor) -> Tensor:
        """Return the product that was given its shape by :meth:`output`."""

    def signal(self, columns: Tensor) -> Tensor:
        """Return the sum of what each element of the signal has in ``columns``."""

    def bias(self, bias: Tensor) -> Tensor:
        """Return the bias in a shape that can be added to the layer's output."""


@dataclass(frozen=True)
class Rows:
    """A linear layer: each vector along the last axis is a column."""

    shape: torch.Size

    def columns(self, signal: Tensor) -> Tensor:
        """Return the vectors side by side."""
        return signal.reshape(1, -1, self.shape[-1]).mT

    def output(self, product: Tensor) -> Tensor:
        """Return the product with its vectors along the last axis."""
        return product.T.reshape(*self.shape[:-1], len(product))

    def product(self, output: Tensor) -> Tensor:
        """Return the vectors side by side."""
        return output.reshape(-1, output.shape[-1]).T

    def signal(self, columns: Tensor) -> Tensor:
        """Return the vectors along the last axis."""
        return columns.mT.reshape(self.shape)

    def bias(self, bias: Tensor) -> Tensor:
        """Return the bias."""
        return bias


@dataclass(frozen=True)
class Windows:
    """A convolution along any number of axes: each window is a column.

    Attributes:
        shape: of the signal, without an axis of samples where there is none.
        kernel: size of a window along each axis.
        stride: from one window to the next.
        dilation: from one element of a window to the next.
        padding: zeros before and after the signal along each axis.
        groups: of channels, each with outputs of its own.
    """

    shape: torch.Size
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int

    @property
    def _batch(self) -> tuple[int, ...]:
        """Samples, channels and sizes of the signal."""
        return (1, *self.shape) if len(self.shape) == len(self.kernel) + 1 else tuple(self.shape)

    @property
    def _padded(self) -> list[int]:
        return [size + sum(pad) for size, pad in zip(self._batch[2:], self.padding, strict=True)]

    @property
    def _sizes(self) -> list[int]:
        """How many windows there are along each axis."""
        axes = zip(self._padded, self.kernel, self.stride, self.dilation, strict=True)
        return [(size - dilation * (kernel - 1) - 1) // stride + 1 for size, kernel, stride, dilation in axes]

    def columns(self, signal: Tensor) -> Tensor:
        """Return the windows side by side."""
        windows = signal.reshape(self._batch)
        if any(map(any, self.padding)):
            windows = F.pad(windows, [size for pad in reversed(self.padding) for size in pad])
        axes = len(self.kernel)
        for axis in range(axes):
            extent = self.dilation[axis] * (self.kernel[axis] - 1) + 1
            windows = windows.unfold(2 + axis, extent, self.stride[axis])[..., :: self.dilation[axis]]
        order = (1, *range(2 + axes, 2 + 2 * axes), 0, *range(2, 2 + axes))
        return windows.permute(order).reshape(self.groups, -1, self._batch[0] * _product(self._sizes))

    def output(self, product: Tensor) -> Tensor:
        """Return the product with samples first, then channels."""
        samples = product.view(len(product), self._batch[0], *self._sizes).movedim(1, 0)
        return samples[0] if len(self._batch) > len(self.shape) else samples

    def product(self, output: Tensor) -> Tensor:
        """Return channels first, then positions."""
        channel = len(output.shape) - len(self.kernel) - 1
        return output.movedim(channel, 0).reshape(output.shape[channel], -1)

    def signal(self, columns: Tensor) -> Tensor:
        """Add up the windows where they lie in the signal."""
        samples, channels = self._batch[:2]
        windows = columns.view(channels, *self.kernel, samples, *self._sizes)
        total = columns.new_zeros(channels, samples, *self._padded)
        places: Iterable[tuple[Any, ...]] = itertools.product(*map(range, self.kernel))
        for place in places:
            axes = zip(place, self.stride, self.dilation, self._sizes, strict=True)
            cut: list[Any] = [slice(p * d, p * d + (n - 1) * s + 1, s) for p, s, d, n in axes]
            total[:, :, *cut] += windows[:, *place]
        bounds = zip(self.padding, self._batch[2:], strict=True)
        inner: list[Any] = [slice(a, a + size) for (a, _), size in bounds]
        return total[:, :, *inner].movedim(0, 1).reshape(self.shape)

    def bias(self, bias: Tensor) -> Tensor:
        """Return the bias along the axis of channels."""
        return bias.view(-1, *[1] * len(self.kernel))


def of_linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Any:
    """Return signal, weight, bias and geometry of a call of ``linear``."""
    return input, weight, bias, Rows(input.shape)


def of_convolution(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | str | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Any:
    """Return signal, weight, bias and geometry of a call of ``conv1d``, ``conv2d`` or ``conv3d``."""
    kernel = tuple(weight.shape[2:])
    strides, dilations = _each(stride, len(kernel)), _each(dilation, len(kernel))
    if padding == "same":
        extra = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        pads = tuple((size // 2, size - size // 2) for size in extra)
    else:
        both = (0,) * len(kernel) if isinstance(padding, str) else _each(padding, len(kernel))
        pads = tuple((size, size) for size in both)
    return input, weight, bias, Windows(input.shape, kernel, strides, dilations, pads, groups)


def _each(value: int | Sequence[int], axes: int) -> tuple[int, ...]:
    values = (value,) if isinstance(value, int) else tuple(value)
    return values * axes if len(values) == 1 else values


def _product(sizes: Sequence[int]) -> int:
    product = 1
    for size in sizes:
        product *= size
    return product
