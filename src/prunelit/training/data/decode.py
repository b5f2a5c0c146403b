"""Image files to uint8 arrays: one image, or many on all cores."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from prunelit.image_files import printable
from prunelit.request import BadRequest
from prunelit.training.data.pixels import WrongDepth, is_gray, plain

UNREAD_FORMATS = ("EPS", "PDF", "MPEG", "HDF5", "GRIB", "BUFR", "WMF", "IPTC")
"""Pillow formats that are not images, or for which Pillow starts another program."""
AT_ONCE = 128
"""The number of files per task of a thread."""
SIZE_ALLOWED = "a height and width to which all images are resized, such as data.size=64"


class NotGray(Exception):
    """An image has colors, but gray images were expected."""


@dataclass(frozen=True)
class Decoder:
    """Decodes the image files of a data set to arrays.

    Args:
        root: ``data.root`` as given by the user, for messages.
        channels: 1 (gray) or 3 (RGB).
        size: height and width of the result; None keeps the size of the images, which must then be equal.
        center: crop the center square (7/8 of the shorter side, as is usual for ImageNet) instead of
            stretching the whole image to a square.
        bits: the number of bits used by pixels of more than 8 bits; None: 16.
    """

    root: str | Path
    channels: int = 3
    size: int | None = None
    center: bool = False
    bits: int | None = None

    def open(self, path: str) -> Any:
        """The image at ``path`` as a Pillow image, gray or RGB, upright, in its own size.

        :func:`prunelit.training.data.pixels.plain` states the rules.
        """
        try:
            with opened(path) as image:
                if self.channels == 1 and not is_gray(image):
                    raise NotGray(path)
                return plain(image, self.channels, self.bits)
        except NotGray:
            raise
        except WrongDepth as wrong:
            key, value = ("bits", self.bits) if wrong.is_number_of_bits else ("root", self.root)
            raise BadRequest(key, value, wrong.allowed, f"{printable(path)}: {wrong.why}") from wrong
        except Exception as fault:  # Pillow's readers raise many kinds of errors for a damaged file
            raise unreadable(self.root, path, fault) from fault

    def fit(self, image: Any) -> np.ndarray:
        """The Pillow image resized and cropped, as uint8 (channels, height, width)."""
        from PIL import Image

        if self.size is not None and self.center:
            scale = round(self.size * 8 / 7) / min(image.size)
            width, height = (max(self.size, round(side * scale)) for side in image.size)
            left, top = (width - self.size) // 2, (height - self.size) // 2
            image = image.resize((width, height), Image.Resampling.BILINEAR)
            image = image.crop((left, top, left + self.size, top + self.size))
        elif self.size is not None and image.size != (self.size, self.size):
            image = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        pixels = np.asarray(image)
        # contiguous, because the memory layout of images changes the rounding in networks
        return np.ascontiguousarray(pixels[None] if self.channels == 1 else pixels.transpose(2, 0, 1))

    def __call__(self, path: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """The file at ``path`` as uint8 (channels, height, width).

        Raises:
            BadRequest: Pillow cannot read it, or it does not have ``shape``.
            NotGray: it has colors, and ``channels`` is 1.
        """
        pixels = self.fit(self.open(path))
        if shape is not None and pixels.shape != shape:
            raise other_size(path, pixels.shape, shape)
        return pixels

    def many(self, paths: Sequence[str], shape: tuple[int, ...]) -> np.ndarray:
        """All files as uint8 (number, *shape), on all cores; raises as for one."""
        out = np.empty((len(paths), *shape), np.uint8)

        def decode(first: int) -> None:
            for i in range(first, min(first + AT_ONCE, len(paths))):
                out[i] = self(paths[i], shape)

        _on_all_cores(decode, len(paths))
        return out

    def statistics(self, paths: Sequence[str]) -> tuple[list[float], list[float]]:
        """Mean and standard deviation of each channel over all files, as if they were in memory."""
        found = np.zeros((self.channels, 256), np.int64)
        shape = None if self.size is not None else self(paths[0]).shape
        lock = Lock()

        def count(first: int) -> None:
            counts = sum(levels(self(path, shape)[None]) for path in paths[first : first + AT_ONCE])
            with lock:
                found[:] += counts

        _on_all_cores(count, len(paths))
        return moments(found)


def _on_all_cores(work: Callable[[int], None], number: int) -> None:
    """Call ``work`` with the first of each ``AT_ONCE`` numbers below ``number``."""
    # threads: Pillow releases the interpreter lock while it decodes and resizes
    pool = ThreadPoolExecutor(cores())
    try:
        for _ in pool.map(work, range(0, number, AT_ONCE)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


@cache
def _formats() -> tuple[str, ...]:
    from PIL import Image

    Image.init()
    common = ("JPEG", "PNG")  # checked first
    return (*common, *(name for name in Image.ID if name not in (*common, *UNREAD_FORMATS)))


def opened(path: str) -> Any:
    """The image file opened by Pillow, its pixels not yet read; its contents decide, not its suffix."""
    from PIL import Image

    return Image.open(path, formats=_formats())


def has_gray_header(root: str | Path, path: str) -> bool:
    """Whether the image file is gray, by its header alone."""
    try:
        with opened(path) as image:
            return is_gray(image)
    except Exception as fault:
        raise unreadable(root, path, fault) from fault


def unreadable(root: str | Path, path: str, fault: Exception) -> BadRequest:
    """The error for an image file that Pillow cannot read."""
    reason = "not an image" if type(fault).__name__ == "UnidentifiedImageError" else fault
    with suppress(OSError):
        reason = "it is empty" if os.path.getsize(path) == 0 else reason
    why = f"{printable(path)} cannot be read ({printable(reason)})"
    return BadRequest("root", root, "image files that Pillow reads", why)


def other_size(path: str, found: tuple[int, ...], expected: tuple[int, ...]) -> BadRequest:
    """The error for images of several sizes if no size was requested."""
    sizes = [f"{shape[2]} x {shape[1]} pixels" for shape in (found, expected)]
    return BadRequest(
        "size", "null", SIZE_ALLOWED, f"{printable(path)} has {sizes[0]} where the first image has {sizes[1]}"
    )


def resize(images: np.ndarray, size: int | None) -> np.ndarray:
    """uint8 images (number, channels, height, width) as (…, size, size), bilinear and antialiased."""
    if size is None or images.shape[2:] == (size, size):
        return images
    out = np.empty((*images.shape[:2], size, size), np.uint8)
    for first in range(0, len(images), 1024):  # float copies of a whole data set would not fit
        part = torch.from_numpy(np.ascontiguousarray(images[first : first + 1024])).float()
        part = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
        out[first : first + 1024] = part.round_().clamp_(0, 255).numpy()
    return out


def statistics(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, for pixels in [0, 1], in float64."""
    counts = np.zeros((images.shape[1], 256), np.int64)
    for first in range(0, len(images), 1024):
        counts += levels(images[first : first + 1024])
    return moments(counts)


def levels(images: np.ndarray) -> np.ndarray:
    """How often each of the 256 values occurs in each channel: int64 (channels, 256)."""
    return np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(images.shape[1])])


def moments(counts: np.ndarray) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, given :func:`levels` of all images."""
    values = np.arange(256) / 255
    share = counts / max(1, counts[0].sum())
    mean = share @ values
    std = np.sqrt(np.maximum(share @ values**2 - mean**2, 0))
    return mean.tolist(), std.tolist()


def cores() -> int:
    """Number of processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
