"""The parts of a figure: its place in the page, the table from which it is drawn, and its drawing.

A figure is one module of :mod:`prunelit.study.report.figures`, which assigns a :class:`Figure` to ``FIGURE``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import altair as alt
import pandas as pd

from prunelit.study.report.charts.chapters import Chapter
from prunelit.study.report.charts.encodings import Chart, wrapped
from prunelit.study.report.charts.run_arrays import RunTable
from prunelit.study.report.charts.tables import StudyTable

Frames = Mapping[str, pd.DataFrame]
"""The tables of a study, by name."""


@dataclass(frozen=True)
class Drawing:
    """A Vega-Lite chart, drawn once for each panel, and how it is laid out.

    Attributes:
        caption: how to read it, in a sentence or two.
        chart: one panel.
        panel: the column whose values are the panels, in the order of the column
            ``<panel>_order``; empty: one panel.
        columns: the maximum number of panels per row.
        size: width and height of a panel, pixels; the page widens panels to the available space.
        cells: for pictures of square cells, the columns of their x and y; ``size`` is then that of a cell.
        own: scales that each panel has separately.
    """

    caption: str
    chart: Chart
    panel: str = "setting"
    columns: int = 3
    size: tuple[int, int] = (380, 250)
    cells: tuple[str, str] | None = None
    own: Sequence[str] = ("x", "y")


@dataclass(frozen=True)
class Figure:
    """A figure of the report.

    Attributes:
        chapter: the chapter of the page.
        order: determines its position in the chapter.
        title: the content in a few words.
        table: the table from which it is drawn; with a :class:`RunTable` it shows one run, selected in the
            page.
        draw: returns its drawing from all tables and the names of the methods in order; None if the study
            has nothing to draw. Only ``runs`` and the figure's own table may be read.
        name: the name of its files and of its element in the page, the name of its module.
    """

    chapter: Chapter
    order: int
    title: str
    table: StudyTable | RunTable
    draw: Callable[[Frames, Sequence[str]], Drawing | None]
    name: str = ""

    def drawn(self, frames: Frames, methods: Sequence[str]) -> DrawnFigure | None:
        """Return the figure of a study, None if the study has nothing to draw."""
        drawing = self.draw(frames, methods)
        return None if drawing is None else DrawnFigure(self, drawing)


@dataclass(frozen=True)
class DrawnFigure:
    """A figure as drawn for one study, from which the page and the image files are made."""

    figure: Figure
    drawing: Drawing

    @property
    def name(self) -> str:
        """Return the name of its files, and of its place in the page."""
        return self.figure.name

    @property
    def title(self) -> str:
        """Return the content in a few words."""
        return self.figure.title

    @property
    def caption(self) -> str:
        """Return how to read it."""
        return self.drawing.caption

    @property
    def data(self) -> str:
        """Return the name of the table that is drawn."""
        return self.figure.table.name

    @property
    def of_run(self) -> bool:
        """Return whether it shows one run."""
        return isinstance(self.figure.table, RunTable)

    @cached_property
    def spec(self) -> dict[str, Any]:
        """The Vega-Lite specification without title, data and theme; not to be changed."""
        width, height = self.drawing.size
        chart = self.drawing.chart.properties(width=width, height=height, data=alt.NamedData(self.data))
        panels = self._panels(chart) if self.drawing.panel else chart
        spec: dict[str, Any] = panels.to_dict(validate=False, context={"pre_transform": False})
        spec.pop("config", None)
        return spec

    def _panels(self, chart: Chart) -> alt.FacetChart:
        drawing = self.drawing
        facet = alt.Facet(
            f"{drawing.panel}:N",
            title=None,
            sort=alt.EncodingSortField(f"{drawing.panel}_order", op="min"),
            header=alt.Header(labelExpr=wrapped(max(24, drawing.size[0] // 8))),
        )
        own: dict[str, Any] = dict.fromkeys(drawing.own, "independent")
        panels = chart.facet(facet=facet, columns=drawing.columns)
        return panels.resolve_scale(**own).resolve_axis(x="independent", y="independent")
