"""What the pixels of real files become: orientation, alpha, palettes, frames, depth."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from prunelit.request import BadRequest
from prunelit.training.data.decode import Decoder


def decoded(path: Path, channels: int = 3, **options: Any) -> np.ndarray:
    return Decoder(path.parent, channels, **options)(str(path))


def png(path: Path, pixels: np.ndarray, depth: int) -> Path:
    """Write a PNG of 16 bits with any number of channels, which Pillow itself does not write."""
    height, width, channels = pixels.shape
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2" if depth == 16 else "u1").tobytes() for row in pixels)
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in chunks:
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp", "avif", "mpo"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_images_stand_upright_in_every_format(tmp_path: Path, suffix: str, orientation: int) -> None:
    stored = np.zeros((16, 32, 3), np.uint8)
    stored[:, :16] = 255  # white on the left
    path, exif = tmp_path / f"x.{suffix}", Image.Exif()
    exif[0x112] = orientation
    options: dict[str, Any] = {"tiffinfo": {274: orientation}} if suffix == "tif" else {"exif": exif}
    if suffix in ("webp", "avif"):
        options["quality"] = 95
    Image.fromarray(stored).save(path, **options)
    found = decoded(path)
    turns = {3: 2, 6: 3, 8: 1}[orientation]  # quarter turns counter-clockwise
    expected = np.rot90(stored, turns)
    assert found.shape == (3, *expected.shape[:2])
    assert np.abs(found.transpose(1, 2, 0).astype(int) - expected).mean() < 4


def test_broken_exif_data_leaves_an_image_as_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    Image.new("RGB", (4, 8), (10, 20, 30)).save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff\xff")
    assert decoded(path).shape == (3, 8, 4)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "gif"])
def test_transparent_pixels_are_white(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((2, 3, 4), np.uint8)
    pixels[:, 0] = (200, 0, 0, 255)
    pixels[:, 1] = (200, 0, 0, 0)
    pixels[:, 2] = (0, 0, 0, 0 if suffix == "gif" else 128)
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(pixels, "RGBA").save(
        path, **({"lossless": True, "exact": True} if suffix == "webp" else {})
    )
    found = decoded(path)[:, 0].T
    assert found[0].tolist() == [200, 0, 0]
    assert found[1].tolist() == [255, 255, 255]
    assert found[2].tolist() == ([255] * 3 if suffix == "gif" else [127] * 3)


def test_a_transparent_colour_or_palette_entry_is_white(tmp_path: Path) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "palette.png", transparency=1)
    assert decoded(tmp_path / "palette.png")[:, 0].T.tolist() == [[10, 20, 30], [255, 255, 255]]
    grays = Image.fromarray(np.array([[7, 9]], np.uint8))
    grays.save(tmp_path / "gray.png", transparency=9)
    assert decoded(tmp_path / "gray.png", 1).tolist() == [[[7, 255]]]
    assert decoded(tmp_path / "gray.png", 3)[:, 0].T.tolist() == [[7] * 3, [255] * 3]


def test_gray_with_alpha_is_gray(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[50, 255], [50, 0]]], np.uint8), "LA").save(tmp_path / "x.png")
    assert decoded(tmp_path / "x.png", 1).tolist() == [[[50, 255]]]


@pytest.mark.parametrize("suffix", ["gif", "tif", "webp", "png"])
def test_the_first_frame_counts(tmp_path: Path, suffix: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ((255, 0, 0), (0, 0, 255))]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    assert np.abs(decoded(tmp_path / f"x.{suffix}")[:, 4, 4].astype(int) - [255, 0, 0]).max() <= 2


def test_ink_becomes_colour(tmp_path: Path) -> None:
    Image.new("CMYK", (4, 4), (255, 0, 0, 0)).save(tmp_path / "x.tif")
    assert decoded(tmp_path / "x.tif")[:, 0, 0].tolist() == [0, 255, 255]


GRAYS = np.linspace(0, 1, 64).reshape(8, 8)


def stored(kind: str, folder: Path, most: int) -> Path:
    """A file with 64 steps from 0 to ``most`` of a given pixel type."""
    values, path = np.rint(GRAYS * most), folder / f"x.{kind.split('-')[0]}"
    if kind == "pgm":
        content = values.astype("u1" if most < 256 else ">u2").tobytes()
        path.write_bytes(f"P5\n8 8\n{most}\n".encode() + content)
    elif kind == "png":
        png(path, values[..., None], 16)
    else:
        Image.fromarray(values.astype(kind.split("-")[1])).save(path)
    return path


DEEP = ("png", "tif-uint16", "tif-int32", "jp2-uint16")


@pytest.mark.parametrize("kind", [*DEEP, "pgm"])
def test_of_sixteen_bits_the_upper_eight_are_kept(tmp_path: Path, kind: str) -> None:
    found = decoded(stored(kind, tmp_path, 65535), 1)
    np.testing.assert_array_equal(found[0], np.rint(GRAYS * 65535).astype(int) >> 8)


@pytest.mark.parametrize("kind", ["png", "tif-uint16", "tif-int32"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_fewer_bits_stored_in_more_are_refused_until_their_number_is_given(
    tmp_path: Path, kind: str, bits: int
) -> None:
    path = stored(kind, tmp_path, 2**bits - 1)
    with pytest.raises(BadRequest, match=rf"^bits=null: .*must be {bits} ") as wrong:
        decoded(path, 1)
    assert "\n" not in str(wrong.value)
    found = decoded(path, 1, bits=bits)
    np.testing.assert_array_equal(found[0], np.rint(GRAYS * (2**bits - 1)).astype(int) >> (bits - 8))
    assert decoded(path, 1, bits=16).max() == (2**bits - 1) >> 8


@pytest.mark.parametrize("most", [255, 1023, 4095])
@pytest.mark.parametrize("bits", [None, 12])
def test_a_format_that_states_its_largest_value_is_believed(
    tmp_path: Path, most: int, bits: int | None
) -> None:
    found = decoded(stored("pgm", tmp_path, most), 1, bits=bits)
    assert found.min() == 0
    assert found.max() == 255
    assert len(np.unique(found)) == 64


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        ("float32", [0.0, 1.0], r"^root=.*x\.tif.*floating-point"),
        ("int32", [-5, 70], r"^root=.*x\.tif.* -5\b"),
        ("int16", [-5, 30000], r"^root=.*x\.tif.* -5\b"),
        ("int32", [0, 70000], r"^bits=null: .*\b70000\b.*must be 17 "),
        ("uint32", [0, 2**32 - 1], r"^root=.*x\.tif"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(
    tmp_path: Path, kind: str, values: list[float], message: str
) -> None:
    path = tmp_path / "x.tif"
    header = {"float32": (3, 32), "int32": (2, 32), "int16": (2, 16), "uint32": (1, 32)}[kind]
    tiff(path, np.array([values], kind), *header)
    with pytest.raises(BadRequest, match=message):
        decoded(path, 1)


def tiff(path: Path, pixels: np.ndarray, sample_format: int, bits: int) -> None:
    """Write a gray TIFF file with the pixel type named in its header."""
    height, width = pixels.shape
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: pixels.nbytes, 339: sample_format}
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    fields = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + fields + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)


def test_signed_pixels_are_read_by_their_value(tmp_path: Path) -> None:
    tiff(tmp_path / "x.tif", np.array([[0, 16384, 32767]], np.int16), 2, 16)
    assert decoded(tmp_path / "x.tif", 1).tolist() == [[[0, 64, 127]]]
    assert decoded(tmp_path / "x.tif", 1, bits=15).tolist() == [[[0, 128, 255]]]
    tiff(tmp_path / "y.tif", np.array([[0, 2**30]], np.int32), 2, 32)
    assert decoded(tmp_path / "y.tif", 1, bits=31).tolist() == [[[0, 128]]]


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_colours_of_sixteen_bits_keep_their_upper_eight(tmp_path: Path, channels: int) -> None:
    pixels = np.full((1, 2, channels), 65535)
    pixels[0, 0, 0] = 0x7F12
    found = decoded(png(tmp_path / "x.png", pixels, 16), 3)
    assert found[0].tolist() == [[0x7F, 255]]
    dark = png(tmp_path / "y.png", np.minimum(pixels, 4095), 16)
    with pytest.raises(BadRequest, match=r"^bits=null: .*y\.png.*\b15\b"):
        decoded(dark, 3)
    with pytest.raises(BadRequest, match=r"^bits=12: "):
        decoded(dark, 3, bits=12)
    assert decoded(png(tmp_path / "z.png", np.full((1, 1, 3), 4095), 16), 3, bits=16).max() == 15


def test_the_contents_of_a_file_decide_and_no_other_program_is_started(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), (1, 2, 3)).save(tmp_path / "x.jpg", "PNG")
    assert decoded(tmp_path / "x.jpg")[:, 0, 0].tolist() == [1, 2, 3]
    (tmp_path / "y.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n")
    with pytest.raises(BadRequest, match=r"y\.png cannot be read \(not an image\)"):
        decoded(tmp_path / "y.png")
    (tmp_path / "z.png").touch()
    with pytest.raises(BadRequest, match=r"z\.png cannot be read \(it is empty\)"):
        decoded(tmp_path / "z.png")


def test_arrays_are_contiguous(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "x.png")
    assert decoded(tmp_path / "x.png").flags.c_contiguous
