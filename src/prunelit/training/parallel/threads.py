"""The number of CPU threads of a run, and how they compute.

The number depends on the config and on the cores that the run may use, but never on the load of the machine,
because another number of threads changes the order of sums.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

SMALL = 2**29
"""The work of a batch (see :func:`work`) below which one thread is used; more would mostly wait for each
other."""
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Environment variables by which users set the number of threads of all programs."""


def work(network: nn.Module, image_shape: tuple[int, ...], batch_size: int) -> int:
    """Return a bound of the multiply-accumulates of a forward pass of one batch, without doing one.

    Weights of two dimensions count once per image, weights of convolutions once per pixel of the image.
    """
    pixels = image_shape[-1] * image_shape[-2]
    each = sum(p.numel() * (pixels if p.dim() > 2 else 1) for p in network.parameters() if p.dim() > 1)
    return each * batch_size


def choose(asked: int | None, work_of_batch: int, available: int) -> int:
    """Return the number of threads: as requested, otherwise as set by ``VARIABLES``, otherwise by the work.

    Args:
        asked: ``trainer.threads``.
        work_of_batch: from :func:`work`.
        available: the number that the process may use: its share of the cores, or the value of the variables.
    """
    if asked is not None:
        return asked
    return 1 if work_of_batch < SMALL and not set_by_user() else available


def set_by_user() -> bool:
    """Whether an environment variable sets the number of threads."""
    return any(name in os.environ for name in VARIABLES)


def set_number(count: int | None) -> None:
    """Compute with ``count`` threads from now on, which the ranks of a run share; None changes nothing."""
    if count is not None:
        torch.set_num_threads(count)


@contextmanager
def put_back() -> Iterator[int]:
    """Yield the number of threads; restore it after the block."""
    before = torch.get_num_threads()
    try:
        yield before
    finally:
        torch.set_num_threads(before)


@contextmanager
def subnormals_as_zero() -> Iterator[None]:
    """Compute with 0 instead of numbers below the smallest normal one (1.2e-38 in float32) inside the block.

    The first moments of weights without a gradient shrink by a factor in each step of Adam or of SGD with
    momentum, and stay at such numbers in the end. A processor takes many times as long to compute with them.
    PyTorch's other threads compute like the thread that first needed them.
    """
    were = not torch.full((1,), 1e-40).mul(1.0).any()
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(were)
