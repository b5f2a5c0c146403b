"""A network as a program that PyTorch runs without prunelit."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn

from prunelit.training.data.augment import Normalise


def program_of(network: nn.Module, normalise: Normalise, input_shape: tuple[int, int, int]) -> bytes:
    """Return a ``torch.export`` program from images, uint8 of shape (n, \\*input_shape), to logits.

    The whole file is made in memory: PyTorch's own writer ends the process where a disk is full.

    Args:
        network: in evaluation mode; takes normalised images.
        normalise: part of the program.
        input_shape: channels, height and width of one image. The program takes any number of images.

    Raises:
        ValueError: the network cannot be exported; one line.
    """
    whole = nn.Sequential(normalise.module(), network).eval()
    images = torch.zeros(2, *input_shape, dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch", min=1)}
    file = io.BytesIO()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.export.save(torch.export.export(whole, (images,), dynamic_shapes=(batch,)), file)
    except Exception as error:  # of many kinds, for code that torch.export does not follow
        reason = next(iter(str(error).strip().splitlines()), "")
        raise ValueError(f"torch.export fails: {type(error).__name__}: {reason[:200]}") from error
    return file.getvalue()
