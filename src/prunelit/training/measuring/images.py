"""Masks and kernels as images for TensorBoard: uint8 tensors of shape (3, height, width)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate, pad

MOST_PIXELS = 256
"""Largest height and width of a mask's image; larger masks are averaged."""
LEAST_PIXELS = 256
"""Smaller images are enlarged to about this many pixels."""
MOST_KERNELS = 16
"""Output and input channels whose kernels are drawn."""
PRUNED = 110
"""The gray of pruned weights, which is not used otherwise; lines between kernels are black."""


def mask_image(mask: Tensor) -> Tensor:
    """Return what a weight's mask keeps: one row per output, one column per input; white is kept, black is
    pruned.

    A pixel of a convolution is the kept share of one kernel.

    Args:
        mask: bool, of two axes or more: outputs, inputs, and the axes of the kernel.
    """
    share = mask.flatten(2).float().mean(2) if mask.ndim > 2 else mask.float()
    height, width = (min(length, MOST_PIXELS) for length in share.shape)
    grey = adaptive_avg_pool2d(share[None, None], (height, width))[0]
    return _enlarged((255 * grey).round().byte().expand(3, -1, -1).cpu())


def kernel_image(weight: Tensor, mask: Tensor) -> Tensor:
    """Return the first kernels of a convolution: one row of kernels per output, one column per input.

    White is 0, red above, blue below, saturated at the largest absolute weight; gray is pruned.

    Args:
        weight: (outputs, inputs, height, width) or (outputs, inputs, length).
        mask: bool, of the same shape.
    """
    chosen = weight.detach().float()[:MOST_KERNELS, :MOST_KERNELS].cpu()
    kept = mask[:MOST_KERNELS, :MOST_KERNELS].cpu()
    if chosen.ndim == 3:
        chosen, kept = chosen.unsqueeze(2), kept.unsqueeze(2)
    chosen = chosen.nan_to_num()
    strength = chosen / chosen.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    red, blue = 255 * (1 + strength.clamp(max=0)), 255 * (1 - strength.clamp(min=0))
    colors = torch.stack([red, torch.minimum(red, blue), blue])
    tiles = torch.where(kept, colors, torch.tensor(float(PRUNED))).round().byte()
    framed = pad(tiles, (0, 1, 0, 1))  # a line at the right and lower end of each kernel
    channels, outputs, inputs, height, width = framed.shape
    image = framed.permute(0, 1, 3, 2, 4).reshape(channels, outputs * height, inputs * width)
    return _enlarged(image)


def _enlarged(image: Tensor) -> Tensor:
    factor = max(1, LEAST_PIXELS // max(image.shape[1:]))
    return interpolate(image[None], scale_factor=factor, mode="nearest")[0] if factor > 1 else image
