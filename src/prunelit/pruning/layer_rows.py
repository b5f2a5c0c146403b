"""A convolution or linear layer as a product of matrices: its inputs as rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

POSITIONS = 64
"""How many positions of a sample are used at most, drawn at random and the same for all samples."""


def rows_of_layer(
    layer: Any, given: Tensor, output: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return rows of inputs and of outputs; ``inputs @ layer.weight.flatten(1).T`` gives the outputs.

    With convolutions in groups, the columns of each group lie side by side. Of the positions of an image or a
    sequence, at most 64 are used, drawn at random.

    Args:
        layer: an ``nn.Linear`` or a convolution that is not transposed.
        given: the input of a call.
        output: of the same shape as the output of that call.
        generator: of random positions, on the CPU.

    Returns:
        Of shapes (rows, inputs of all groups) and (rows, outputs).
    """
    if isinstance(layer, nn.Linear):
        given, output = torch.atleast_2d(given), torch.atleast_2d(output)
        sizes, inputs, outputs = given.shape[1:-1], given, output
    else:
        dimensions = len(layer.kernel_size)
        if given.ndim == dimensions + 1:
            given, output = given[None], output[None]
        inputs = _patches(layer, given).movedim(1, dimensions + 1)
        outputs = output.movedim(1, -1)
        sizes = outputs.shape[1:-1]
    count = sizes.numel()
    chosen = torch.arange(count)
    if count > POSITIONS:
        chosen = torch.randperm(count, generator=generator)[:POSITIONS].sort().values
    places = torch.unravel_index(chosen.to(given.device), sizes) if sizes else ()
    index: Any = (slice(None), *places)
    rows, wanted = inputs[index], outputs[index]
    if isinstance(layer, nn.Linear):
        return rows.reshape(-1, layer.in_features), wanted.reshape(-1, layer.out_features)
    return rows.flatten(0, 1).flatten(1), wanted.flatten(0, 1)


def _patches(layer: Any, given: Tensor) -> Tensor:
    """Return a view of what the kernel is multiplied by: (samples, channels, *positions, *kernel)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    found = F.pad(given, layer._reversed_padding_repeated_twice, mode=mode)
    for axis, (size, step, gap) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True), start=2
    ):
        found = found.unfold(axis, gap * (size - 1) + 1, step)[..., ::gap]
    return found
