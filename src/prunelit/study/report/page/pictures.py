"""The figures of a study as PNG and SVG files, without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd

from prunelit.durable import write_atomically
from prunelit.study.report.charts.figure import DrawnFigure
from prunelit.study.report.charts.study_figures import StudyFigures
from prunelit.study.report.charts.tables import joined
from prunelit.study.report.charts.theme import theme
from prunelit.study.report.page.raster import rasterizing
from prunelit.study.report.page.vega import VEGA_LITE

LEGEND_WIDTH = 800
"""Width in pixels of a row of a legend."""


def write_pictures(study: StudyFigures, folder: Path) -> list[Path]:
    """Write each figure as PNG and SVG to ``folder``; figures of a single run to a subfolder with its name.

    Of many networks or panels those are drawn that the page shows when it opens. A figure of a single run is
    drawn of the first run that has it.
    """
    tables, runs = study.frames, study.first_shown
    names = tables["runs"].set_index("run")["name"]
    written = []
    with rasterizing() as rasterize:
        for figure in study.all:
            rows, left_out, place = *study.opening_rows(figure), folder
            if figure.of_run:
                rows, left_out = joined(tables, figure.data), ""
                # For one run only, to save time; the page contains the figures of all runs.
                run = next((run for run in runs if (rows["run"] == run).any()), None)
                if run is None:
                    continue
                rows, place = rows[rows["run"] == run], folder / _safe(str(names[run]))
            svg = _write_svg(figure, rows, left_out, place)
            if svg is not None:
                rasterize(svg)
                written += [svg, svg.with_suffix(".png")]
    return written


def _write_svg(figure: DrawnFigure, rows: pd.DataFrame, left_out: str, folder: Path) -> Path | None:
    """Write one figure of these rows and return its path, None if there is nothing to draw."""
    import vl_convert

    folder.mkdir(parents=True, exist_ok=True)
    data = json.loads(rows.to_json(orient="records"))
    config = theme("light")
    config["legend"]["columns"] = _legend_columns(rows)
    spec = {**figure.spec, "title": _title(figure.title, left_out), "config": config}
    drawing = figure.drawing
    if drawing.cells:
        sizes = zip(drawing.size, drawing.cells, strict=True)
        sides = (side * int(rows[key].max() + 1) for side, key in sizes)
        spec = {**spec, "spec": {**spec["spec"], **dict(zip(("width", "height"), sides, strict=True))}}
    svg = _renumbered(
        vl_convert.vegalite_to_svg({**spec, "datasets": {figure.data: data}}, vl_version=VEGA_LITE)
    )
    if 'height="Infinity"' in svg[:400]:  # no row has a value to draw
        return None
    write_atomically(folder / f"{figure.name}.svg", svg)
    return folder / f"{figure.name}.svg"


def _title(title: str, left_out: str) -> Any:
    """Return a title, with a second line on what is left out."""
    return {"text": title, "subtitle": left_out} if left_out else title


def _legend_columns(rows: pd.DataFrame) -> int:
    """Return the number of names that fit into a row of the legend, computed as in the page."""
    names = [len(str(name)) for key in ("method", "asked") if key in rows for name in rows[key].unique()]
    return max(1, LEGEND_WIDTH // (32 + 6 * min(max(names, default=8), 65)))


def _renumbered(svg: str) -> str:
    """Return the image with clips and gradients numbered from 0, because Vega counts across images."""
    found = dict.fromkeys(re.findall(r'id="((?:clip|gradient_)\d+)"', svg))
    numbers = {name: f"{name.rstrip('0123456789')}{number}" for number, name in enumerate(found)}
    return re.sub(r"(?:clip|gradient_)\d+", lambda match: numbers.get(match[0], match[0]), svg)


def _safe(name: str) -> str:
    """Return a run's name as one of a folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".") or "run"
