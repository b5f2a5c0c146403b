"""A process beside the report's turns SVGs into PNGs, and its errors are the report's."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from prunelit.study.report.page.raster import rasterizing

SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="4" height="3"><rect width="4" height="3"/></svg>'


def test_all_pictures_are_there_when_the_block_ends(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.svg", "line\nbreak.svg")]
    with rasterizing() as rasterize:
        for path in paths:
            path.write_text(SVG)
            rasterize(path)
    for path in paths:
        image = Image.open(path.with_suffix(".png"))
        assert (image.size, image.mode, image.getpixel((5, 5))) == ((8, 6), "RGB", (0, 0, 0))


def test_what_went_wrong_there_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone\.svg"), rasterizing() as rasterize:
        rasterize(tmp_path / "gone.svg")
