"""All figures of one study: their tables, and their drawings by chapter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from prunelit.study.report.charts.figure import DrawnFigure, Figure
from prunelit.study.report.charts.run_arrays import RunTable, first_shown, shown_in_detail, tables_of_runs
from prunelit.study.report.charts.tables import RUNS, StudyRows, StudyTable, joined, methods_of
from prunelit.study.report.records.study import Study

MOST_SETTINGS = 3
"""Networks and data sets that are shown together at first; of more the first is shown."""
MOST_PANELS = 12
"""Panels of a figure that are shown together."""


@dataclass(frozen=True)
class StudyFigures:
    """The figures of a study.

    Attributes:
        frames: the tables from which they are drawn, by name.
        methods: in order.
        chapters: the figures that are not empty, by the title of their chapter, in order.
    """

    frames: dict[str, pd.DataFrame]
    methods: list[str]
    chapters: dict[str, list[DrawnFigure]]

    @property
    def all(self) -> list[DrawnFigure]:
        """Return the figures in the order of the page."""
        return [figure for chapter in self.chapters.values() for figure in chapter]

    @property
    def shown_in_detail(self) -> list[int]:
        """Return the runs that figures of single runs show."""
        return shown_in_detail(self.frames["runs"])

    @property
    def first_shown(self) -> list[int]:
        """Return the runs that figures of single runs show first."""
        return first_shown(self.frames["runs"])

    def opening_rows(self, figure: DrawnFigure) -> tuple[pd.DataFrame, str]:
        """Return what of a figure's table the page shows when it opens, and in words what that leaves out."""
        rows, left_out = joined(self.frames, figure.data), ""
        settings = _in_order(self.frames["runs"], "setting")
        if len(settings) > MOST_SETTINGS:
            rows = rows[rows["setting"] == settings[0]]
            left_out = f"{settings[0]}; report.html has {len(settings) - 1} more networks or data sets"
        panels = _in_order(rows, figure.drawing.panel) if figure.drawing.panel else []
        if len(panels) > MOST_PANELS:
            rows = rows[rows[figure.drawing.panel].isin(panels[:MOST_PANELS])]
            left_out = f"{MOST_PANELS} of {len(panels)} panels; report.html has the others"
        return rows, left_out


def _in_order(rows: pd.DataFrame, column: str) -> list[str]:
    """Return each value of a column once, in the order of the column ``<column>_order``."""
    return list(rows.sort_values(f"{column}_order")[column].unique())


def tidy(study: Study, figures: Sequence[Figure]) -> dict[str, pd.DataFrame]:
    """Return the table ``runs`` and the tables of the figures by name; unusable arrays are skipped."""
    tables = {figure.table.name: figure.table for figure in figures}
    assert all(tables[figure.table.name] == figure.table for figure in figures), "one name, one table"
    rows = StudyRows(study)
    frames = {RUNS.name: RUNS.of(rows)}
    frames |= {table.name: table.of(rows) for table in tables.values() if isinstance(table, StudyTable)}
    of_runs = [table for table in tables.values() if isinstance(table, RunTable)]
    return frames | tables_of_runs(study, of_runs, shown_in_detail(frames[RUNS.name]))


def draw_study(study: Study, figures: Sequence[Figure]) -> StudyFigures:
    """Draw the figures of a study, in the order given."""
    frames = tidy(study, figures)
    methods = methods_of(frames[RUNS.name])
    chapters: dict[str, list[DrawnFigure]] = {}
    for figure in figures:
        drawn = figure.drawn(frames, methods)
        if drawn is not None:
            chapters.setdefault(figure.chapter.title, []).append(drawn)
    return StudyFigures(frames, methods, chapters)
