"""The share of the kept parameters that lies on a path from an input to an output."""

from __future__ import annotations

from collections.abc import Sequence

from prunelit.study.report.charts.chapters import PATHS_AND_TIME
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.mean_curves import BESIDE, MEANS, mean_curves
from prunelit.study.report.charts.tables import RUNS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return effective density, as a share of density, over compression; None if it is not known."""
    runs = frames["runs"]
    if not (runs["on_path"].notna() & ~runs["dense"]).any():
        return None
    caption = (
        "The effective density as a share of the density. At 100 %, every kept parameter is on a path "
        f"from an input to an output; at 0 %, none is. {MEANS}{BESIDE}"
    )
    chart = mean_curves(runs, methods, "compression", "on_path", "Kept parameters on a path")
    return Drawing(caption, chart)


FIGURE = Figure(PATHS_AND_TIME, 10, "Kept parameters that lie on a path", RUNS, draw)
