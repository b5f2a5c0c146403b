"""A network as a program that PyTorch runs without prunelit."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn

from prunelit.pruning.coupling.trace import start_autograd
from prunelit.training.data.augment import Normalise


def program_of(
    network: nn.Module, normalise: Normalise, input_shape: tuple[int, int, int], batch: int | None = None
) -> bytes:
    """Return a ``torch.export`` program from images, uint8 of shape (n, \\*input_shape), to logits.

    The whole file is made in memory: PyTorch's own writer ends the process where a disk is full.

    Args:
        network: in evaluation mode; takes normalised images.
        normalise: part of the program.
        input_shape: channels, height and width of one image.
        batch: the number of images that the program takes; None: any.

    Raises:
        ValueError: the network cannot be exported; one line.
    """
    whole = nn.Sequential(normalise.module(), network).eval()
    images = torch.zeros(batch or 2, *input_shape, dtype=torch.uint8)
    dynamic = None if batch else ({0: torch.export.Dim("batch", min=1)},)
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            start_autograd()
            torch.export.save(torch.export.export(whole, (images,), dynamic_shapes=dynamic), file)
    except Exception as error:  # of many kinds, for code that torch.export does not follow
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ValueError(f"torch.export fails: {type(error).__name__}: {reason[:200]}") from error
    return file.getvalue()
