"""Convert SVGs to PNGs in another process, because vl_convert keeps the interpreter lock."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from prunelit.durable import write_atomically

SCALE = 2.0
"""Pixels of a PNG per unit of the chart."""


def write_png(svg: Path) -> None:
    """Write the PNG of an SVG file next to it, without transparency and compressed to a fifth of the size."""
    import vl_convert
    from PIL import Image

    png = vl_convert.svg_to_png(svg.read_text(encoding="utf-8"), scale=SCALE)
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "PNG")
    write_atomically(svg.with_suffix(".png"), buffer.getvalue())


@contextmanager
def rasterizing() -> Iterator[Callable[[Path], None]]:
    """Yield a function to call for each SVG file; when the block ends, the PNGs are complete."""
    requested: list[Path] = []
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        stdin = process.stdin
        assert stdin is not None

        def rasterize(svg: Path) -> None:
            requested.append(svg)
            with suppress(BrokenPipeError):
                stdin.write(json.dumps(str(svg)).encode() + b"\n")
                stdin.flush()

        try:
            yield rasterize
            with suppress(BrokenPipeError):
                stdin.close()
            done = process.wait() == 0
        except BaseException:
            process.kill()
            raise
    for svg in [] if done else requested:  # errors of the process are raised here
        write_png(svg)


if __name__ == "__main__":
    for line in sys.stdin:
        write_png(Path(json.loads(line)))
