"""Convert pixels of any kind to 8-bit gray or RGB, with one rule each for orientation, alpha, palettes and
depth."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np

STORED_BITS = 16
"""The assumed number of bits of pixels with more than 8 bits if ``data.bits`` is null."""
STATES_DEPTH = ("PPM", "JPEG2000")
"""Formats that state their largest value; Pillow scales them to 16 bits."""
CONVERTED = "a folder of images with integers >= 0 as pixels: convert the files to 8 or 16 bits"
ORIENTATION = 0x112
"""The number of the orientation in EXIF data."""
DARK = 2**14
"""16-bit images without a pixel of at least this value appear to use fewer bits."""


class WrongDepth(ValueError):
    """Pixels that do not fit the rule for the depth of the data set.

    Args:
        why: the reason.
        allowed: what ``data.bits`` must be, or what the folder must contain.
        is_number_of_bits: whether another value of ``data.bits`` solves the problem.
    """

    def __init__(self, why: str, allowed: str, is_number_of_bits: bool = True) -> None:
        super().__init__(why)
        self.why, self.allowed, self.is_number_of_bits = why, allowed, is_number_of_bits


def is_gray(image: Any) -> bool:
    """Whether the Pillow image has one channel of gray, with or without alpha."""
    return image.mode in ("L", "1", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def plain(image: Any, channels: int, bits: int | None = None) -> Any:
    """Return a Pillow image of mode L or RGB: its first frame, upright, on white, with 8 bits per channel.

    * Orientation: that of the EXIF data is applied, in every format that has it.
    * Alpha, a transparent palette entry or color: the image is blended with white.
    * Palettes, CMYK, YCbCr and HSV become RGB as Pillow converts them; color profiles (ICC) are not applied.
    * Depth: of pixels with more than 8 bits, the upper 8 of ``bits`` are kept.

    Args:
        image: a Pillow image as opened.
        channels: 1 (gray) or 3 (RGB).
        bits: the number of bits of deeper pixels; None: 16, and darker images are refused.

    Raises:
        WrongDepth: floating-point pixels, or values that do not fit ``bits``.
    """
    deep, states_depth = _has_deep_colors(image), image.format in STATES_DEPTH
    image.load()
    image = upright(image)
    if image.mode.startswith("I"):
        image = _upper_bits(image, STORED_BITS if states_depth else bits)
    elif image.mode == "F":
        raise WrongDepth("its pixels are floating-point numbers", CONVERTED, is_number_of_bits=False)
    elif deep:
        _check_colors(image, bits)
    return _on_white(image, "L" if channels == 1 else "RGB")


def upright(image: Any) -> Any:
    """Return the Pillow image rotated according to its EXIF data, if that can be read."""
    from PIL import ImageOps

    with suppress(Exception):  # Pillow raises many kinds of errors for damaged EXIF data
        if image.getexif().get(ORIENTATION, 1) != 1:
            return ImageOps.exif_transpose(image)
    return image


def _upper_bits(image: Any, bits: int | None) -> Any:
    """Convert a gray image with up to 32 bits to 8 bits."""
    from PIL import Image

    pixels = np.asarray(image).astype(np.int64)
    least, most, used = int(pixels.min()), int(pixels.max()), bits or STORED_BITS
    if least < 0:
        raise WrongDepth(f"a pixel is {least}", CONVERTED, is_number_of_bits=False)
    if most >= 2**used:
        why = f"a pixel is {most}, more than the {2**used - 1} of {used} bits"
        raise WrongDepth(why, f"{most.bit_length()} or more, the bits that the pixels use")
    if bits is None and most < DARK:
        raise WrongDepth(f"its brightest pixel of {used} bits is {most}", _dark_allowed(most))
    eight = (pixels >> (used - 8)).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        eight[pixels == transparent] = 255
    return Image.fromarray(eight)


def _check_colors(image: Any, bits: int | None) -> None:
    """Refuse 16-bit colors, of which Pillow returns the upper 8, if other bits must be kept."""
    if bits not in (None, STORED_BITS):
        raise WrongDepth(
            f"it has several channels of 16 bits, and Pillow reads the upper 8 of 16, not of {bits}",
            "16 or null: convert these files to 8 bits",
        )
    bands = image.getbands()
    most = max(high for band, (_, high) in zip(bands, _extremes(image), strict=True) if band not in "Aa")
    if bits is None and most < DARK >> 8:
        raise WrongDepth(f"the upper 8 bits of its brightest pixel are {most}", "16 if images are that dark")


def _extremes(image: Any) -> list[tuple[int, int]]:
    found = image.getextrema()
    return list(found) if isinstance(found[0], tuple) else [found]


def _dark_allowed(most: int) -> str:
    used = max(8, most.bit_length())
    return f"{used} if the pixels use {used} of the bits, or 16 if images are that dark"


def _has_deep_colors(image: Any) -> bool:
    """Whether an opened image stores several channels of 16 bits; this is unknown after loading."""
    kinds = [str(tile[3]) for tile in image.tile if len(tile) > 3]
    return image.format in ("PNG", "TIFF") and any(";16" in kind for kind in kinds)


def _on_white(image: Any, mode: str) -> Any:
    """Return the image in ``mode``, L or RGB, with transparent parts blended with white."""
    from PIL import Image

    if not (image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info):
        return image.convert(mode)
    if image.mode == "La":
        image = image.convert("LA")
    with_alpha = image.convert("RGBA")
    white = Image.new("RGBA", with_alpha.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, with_alpha).convert("RGB").convert(mode)
