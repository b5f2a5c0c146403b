"""Programs that take images and return logits, and a check whether two of them compute the same."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

Program = Callable[[Tensor], Tensor]
"""From images, uint8 of shape (n, channels, height, width), to logits (n, classes)."""

TOLERANCE = 1e-3
"""Largest allowed change of a logit, as a share of the largest logit: the order of sums differs."""
BATCHES = (1, 3, 64)
"""Numbers of images for the check of a program with a dynamic batch."""


class Differs(ValueError):
    """A program that does not compute what the run's network computes; the message is one line."""


def in_pytorch(network: nn.Module, normalise: nn.Module) -> Program:
    """Return a network, in evaluation mode, preceded by its normalisation."""
    whole = nn.Sequential(normalise, network)

    def program(images: Tensor) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = whole(images)
        return logits

    return program


def loaded_program(content: bytes) -> Program:
    """Return the program in the bytes of a ``torch.export`` file."""
    module: Any = torch.export.load(io.BytesIO(content)).module()

    def program(images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = module(images)
        return logits

    return program


def largest_change(found: Program, expected: Program, images: Tensor, batch: int | None = None) -> float:
    """Return the largest change of a logit, as a share of the largest logit, over batches of several sizes.

    Args:
        found: the program to check.
        expected: what it must compute.
        images: to check with.
        batch: the only number of images that ``found`` takes; None: it takes any.

    Raises:
        Differs: the outputs have another shape, are not finite where they should be, or change too much.
    """
    change = 0.0
    for size in BATCHES if batch is None else (batch,):
        part = images[torch.arange(size) % len(images)]
        one, other = found(part), expected(part)
        if one.shape != other.shape:
            raise Differs(f"its outputs have the shape {tuple(one.shape)} instead of {tuple(other.shape)}")
        scale = float(other.abs().max().clamp_min(1e-12))
        change = max(change, float((one - other).abs().max()) / scale)
        if not change <= TOLERANCE:
            raise Differs(f"its outputs change by {change:.1e} of the largest")
    return change
