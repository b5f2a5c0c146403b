"""Masks in a ``.safetensors`` file: one byte for each weight, or one bit.

With one byte, each mask is a bool tensor of its parameter's shape. With one bit, it is a row of bytes, as
``numpy.packbits`` makes it from the mask in row-major order: the first weight is the highest bit of the first
byte, and the last byte is filled up with zeros. The metadata of the file then holds the shapes under
``prunelit.bit_masks``, as a JSON object of lists by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from prunelit.pruning.masks import Masks
from prunelit.request import BadRequest
from prunelit.training.checkpoints.weight_files import read_file

SHAPES = "prunelit.bit_masks"


def as_bits(masks: Masks) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what a file holds of ``masks`` with one bit for each weight: its tensors and its metadata."""
    shapes = {name: list(mask.shape) for name, mask in masks.items()}
    packed = {name: np.packbits(mask.cpu().numpy().reshape(-1)) for name, mask in masks.items()}
    return {name: torch.from_numpy(bits) for name, bits in packed.items()}, {SHAPES: json.dumps(shapes)}


def read_mask_file(path: Path, key: str = "checkpoint") -> Masks:
    """Return the masks in a file of either kind, as bool tensors.

    Raises:
        BadRequest: on ``key``, if the file cannot be read or its shapes do not fit.
    """
    content = read_file(path, key)
    shapes = _shapes(path) if path.suffix == ".safetensors" else None
    if shapes is None:
        return {name: mask.bool() for name, mask in content.items()}
    try:
        return {name: _unpacked(content[name], shape) for name, shape in shapes.items()}
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        allowed = "a masks.safetensors that prunelit wrote"
        raise BadRequest(key, path, allowed, f"its shapes do not fit its tensors ({error})") from error


def _shapes(path: Path) -> Mapping[str, list[int]] | None:
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        text = (file.metadata() or {}).get(SHAPES)
    return None if text is None else json.loads(text)


def _unpacked(bits: Tensor, shape: list[int]) -> Tensor:
    number = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.shape != (-(-number // 8),):
        raise ValueError(f"{number} weights and {tuple(bits.shape)} bytes")
    return torch.from_numpy(np.unpackbits(bits.numpy(), count=number).astype(bool)).view(shape)
