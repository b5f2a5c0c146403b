"""Convolutions, plain and transposed, with their groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from prunelit.pruning.coupling.ledger import Labels
from prunelit.pruning.coupling.marked import Marked, Step
from prunelit.pruning.coupling.rules import rule
from prunelit.pruning.coupling.rules.products import add_bias, product

WIDE = 8
"""From this number of channels per group, the same positions of all groups are removed, not whole groups."""


def convolution(
    step: Step,
    x: Marked,
    weight: Marked,
    bias: Marked | None = None,
    *sizes: Any,
    groups: int = 1,
) -> Marked:
    """Sums over the channels of each group; the axes of the image stay whole."""
    spatial = [("image", i) for i in range(weight.ndim - 2)]
    batched = x.ndim == weight.ndim
    lead = ["batch"] if batched else []
    _hold_places(step, x, weight)
    kernel = Marked.plain(weight.shape, weight.is_weight)
    kernel = Marked(kernel.shape, (*weight.labels[:2], *kernel.labels[2:]), weight.zero, weight.is_weight)
    if groups == 1:
        taps = [("tap", i) for i in range(weight.ndim - 2)]
        image = Marked(x.shape, _without(x.labels, len(lead) + 1), x.zero, x.is_weight)
        factors = [(image, [*lead, "in", *spatial]), (kernel, ["out", "in", *taps])]
        result = product(step, factors, [*lead, "out", *spatial])
    else:
        labels, zero = _in_groups(step, x.labels[len(lead)], kernel, groups, x.zero[len(lead)])
        shape = Marked.plain(step.shape)
        result = shape.with_axis(len(lead), labels, zero)
        if batched:
            result = result.with_axis(0, x.labels[0], x.zero[0])
    return add_bias(step, result, bias, len(lead))


def _hold_places(step: Step, x: Marked, weight: Marked) -> None:
    for back in range(-1, 1 - weight.ndim, -1):
        step.ledger.hold(weight.labels[back], step.why("positions of a kernel"))
        step.ledger.hold(x.labels[back], step.why("places of an image"))


def _without(labels: tuple[Labels, ...], count: int) -> tuple[Labels, ...]:
    return tuple(along if axis < count else None for axis, along in enumerate(labels))


def _in_groups(
    step: Step, channels: Labels, weight: Marked, groups: int, silent: bool
) -> tuple[Labels, bool]:
    """Return the labels of the outputs of a convolution in groups.

    Either whole groups can go, or the same places within all groups: what leaves more of a choice.
    """
    outputs, inputs = weight.shape[0] // groups, weight.shape[1]
    out, within = weight.labels[0], weight.labels[1]
    ledger, why = step.ledger, step.why("channels of a group go together")
    if whole_groups_go(weight.shape, groups):
        out = tied_blocks(step, out, (groups, outputs), along=0)
        channels = tied_blocks(step, channels, (groups, inputs), along=0)
        ledger.hold(within, step.why("inputs within a group"))
        if channels is None or out is None:
            ledger.hold(out, step.why("their inputs stay"))
            ledger.hold(channels, step.why("their outputs stay"))
            return None, False
        ledger.tie(channels[::inputs], out[::outputs], why)
        return out, weight.zero[0]
    out = tied_blocks(step, out, (groups, outputs), along=1)
    channels = tied_blocks(step, channels, (groups, inputs), along=1)
    first = None if channels is None else channels[:inputs]
    first = ledger.tie(first, within, step.why("inputs within each group"))
    ledger.contract(first, within, silent, weight.zero[1], step.why("inputs within each group"))
    return out, weight.zero[0]


def whole_groups_go(shape: Sequence[int], groups: int) -> bool:
    """Return whether a convolution with a weight of this shape loses whole groups only.

    It loses whole groups where they are narrow and at least as many as the places in each of them.
    """
    narrowest = min(shape[0] // groups, shape[1])
    return narrowest < WIDE and groups >= narrowest


def tied_blocks(step: Step, labels: Labels, shape: tuple[int, int], along: int) -> Labels:
    """Tie all positions with the same index along one of the two axes into which ``labels`` are split."""
    if labels is None:
        return None
    grid = labels.reshape(shape)
    first = grid[:, :1] if along == 0 else grid[:1]
    step.ledger.tie(grid.reshape(-1), np.broadcast_to(first, shape).reshape(-1), step.why("they go together"))
    return labels


@rule("conv1d", "conv2d", "conv3d")
def conv(
    step: Step, x: Marked, weight: Marked, bias: Marked | None = None, *sizes: Any, **named: Any
) -> Marked:
    """Convolution of one to three axes; ``sizes``: stride, padding, dilation, groups."""
    return convolution(step, x, weight, bias, groups=_groups(sizes, named))


def _groups(sizes: Sequence[Any], named: Mapping[str, Any]) -> int:
    """Return the number of groups of a call, plain or transposed: the fourth argument after the bias."""
    return int(sizes[3] if len(sizes) > 3 else named.get("groups", 1))


@rule("convolution", "_convolution")
def general_convolution(
    step: Step, x: Marked, weight: Marked, bias: Marked | None, *sizes: Any, **keywords: Any
) -> Marked:
    """Convolution of any kind."""
    transposed, groups = sizes[3], sizes[5]
    if transposed:
        return conv_transpose(step, x, weight, bias, groups=groups)
    return convolution(step, x, weight, bias, groups=groups)


@rule("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
def conv_transpose(
    step: Step, x: Marked, weight: Marked, bias: Marked | None = None, *sizes: Any, **named: Any
) -> Marked:
    """Transposed convolution: its weight has the inputs along axis 0; only whole groups are removed.

    ``sizes``: stride, padding, output padding, groups, dilation.
    """
    groups = _groups(sizes, named)
    if groups == 1:
        turned = Marked(
            (weight.shape[1], weight.shape[0], *weight.shape[2:]),
            (weight.labels[1], weight.labels[0], *weight.labels[2:]),
            (weight.zero[1], weight.zero[0], *weight.zero[2:]),
            weight.is_weight,
        )
        return convolution(step, x, turned, bias, groups=1)
    channel = x.ndim - weight.ndim + 1
    _hold_places(step, x, weight)
    inputs, outputs = weight.shape[0] // groups, weight.shape[1]
    step.ledger.hold(weight.labels[1], step.why("outputs within a group"))
    own = tied_blocks(step, weight.labels[0], (groups, inputs), along=0)
    channels = step.ledger.tie(x.labels[channel], own, step.why("channels of a group go together"))
    labels = None if channels is None else np.repeat(channels[::inputs], outputs)
    result = Marked.plain(step.shape).with_axis(channel, labels, weight.zero[0])
    return add_bias(step, result, bias, channel)
