"""The figures of a study as PNG and SVG files, without a browser."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prunelit.durable import write_atomically
from prunelit.study.report.figures.figure import Figure
from prunelit.study.report.figures.theme import theme
from prunelit.study.report.frames import joined

VEGA_LITE = "6.4"
"""The version that Altair 6 writes."""
SCALE = 2.0
"""Pixels of a PNG by unit of the chart."""


def write_pictures(
    figures: Sequence[Figure], tables: Mapping[str, pd.DataFrame], runs: Sequence[int], folder: Path
) -> list[Path]:
    """Write each figure as PNG and SVG below ``folder``; those of a single run in a folder of its name.

    Args:
        figures: what to draw.
        tables: their data by name.
        runs: numbers of the runs with detailed pictures: each is drawn of the first that has it.
        folder: of the pictures.
    """
    names = tables["runs"].set_index("run")["name"]
    written = []
    for figure in figures:
        rows = joined(tables, figure.data)
        spec = {**figure.spec(), "title": figure.title, "config": theme("light")}
        if not figure.of_run:
            written += _write(spec, figure, rows, folder)
            continue
        # To save time of one run; the page saves those of others.
        run = next((run for run in runs if (rows["run"] == run).any()), None)
        if run is not None:
            own = rows[rows["run"] == run]
            written += _write(spec, figure, own, folder / _safe(str(names[run])))
    return written


def _write(spec: dict[str, Any], figure: Figure, rows: pd.DataFrame, folder: Path) -> list[Path]:
    """Write one figure of these rows."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(rows.to_json(orient="records"))
    if figure.cells:
        sides = (side * int(rows[key].max() + 1) for side, key in zip(figure.size, figure.cells, strict=True))
        spec = {**spec, "spec": {**spec["spec"], **dict(zip(("width", "height"), sides, strict=True))}}
    svg = _renumbered(
        vl_convert.vegalite_to_svg({**spec, "datasets": {figure.data: data}}, vl_version=VEGA_LITE)
    )
    if 'height="Infinity"' in svg[:400]:  # no row has a value to draw
        return []
    write_atomically(folder / f"{figure.name}.svg", svg)
    write_atomically(folder / f"{figure.name}.png", _small(vl_convert.svg_to_png(svg, scale=SCALE)))
    return [folder / f"{figure.name}.svg", folder / f"{figure.name}.png"]


def _small(png: bytes) -> bytes:
    """Return the same picture in a fifth of the bytes: without transparency, and compressed."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _renumbered(svg: str) -> str:
    """Return the picture with its own numbers of clips and gradients: Vega counts from picture to picture."""
    found = dict.fromkeys(re.findall(r'id="((?:clip|gradient_)\d+)"', svg))
    numbers = {name: f"{name.rstrip('0123456789')}{number}" for number, name in enumerate(found)}
    return re.sub(r"(?:clip|gradient_)\d+", lambda match: numbers.get(match[0], match[0]), svg)


def _safe(name: str) -> str:
    """Return a run's name as one of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "run"
