"""A study as one HTML file that needs no network connection, and its figures as image files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prunelit.durable import write_atomically
from prunelit.study.report.charts.encodings import pruned
from prunelit.study.report.charts.figure import DrawnFigure
from prunelit.study.report.charts.study_figures import MOST_SETTINGS, StudyFigures, draw_study
from prunelit.study.report.charts.tables import OF_RUN, methods_of
from prunelit.study.report.charts.theme import CATEGORIES, DENSE, theme
from prunelit.study.report.figures import all_figures
from prunelit.study.report.page.page_text import problems, run_list, summary, title
from prunelit.study.report.page.pictures import write_pictures
from prunelit.study.report.page.vega import bundle
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.report_tables import Tables

ASSETS = Path(__file__).parent / "assets"
MOST_LISTED = 20
"""The number of runs up to which the list of runs is not a box with a search field."""


def write_page(study: Study, tables: Tables, out: Path, script: Callable[[], str] = bundle) -> list[Path]:
    """Write ``report.html`` and ``figures/`` to ``out`` and return their paths.

    The same records give the same bytes. Everything that comes from records is escaped. ``script`` returns
    the JavaScript that draws the figures.
    """
    out.mkdir(parents=True, exist_ok=True)
    figures = draw_study(study, all_figures())
    write_atomically(out / "report.html", page(study, tables, figures, script))
    return [out / "report.html", *write_pictures(figures, out / "figures")]


def page(study: Study, tables: Tables, figures: StudyFigures, script: Callable[[], str]) -> str:
    """Return the page as HTML."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(ASSETS),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    shared, listed = run_list(study)
    runs = figures.frames["runs"]
    shown = [chapter_of(title, figures) for title in figures.chapters]
    sections = [{"id": "problems", "title": "What went wrong"}, {"id": "results", "title": "Results"}]
    sections += [*shown, {"id": "runs", "title": "Runs"}]
    return environment.get_template("page.html").render(
        title=title(study),
        summary=summary(study),
        filters=filters(runs),
        settings=runs.sort_values("setting_order")["setting"].unique().tolist(),
        most_settings=MOST_SETTINGS,
        most_listed=MOST_LISTED,
        sections=sections,
        problems=problems(study, tables),
        results=tables.results,
        by_section={name: grids for name, grids in tables.by_section.items() if grids},
        chapters=shown,
        shared=shared,
        runs=listed,
        data=page_data(figures),
        # Files of the package are the only texts that are not escaped.
        css=Markup(_palette() + _asset("page.css")),
        script=Markup(_asset("page.js")),
        vega=Markup(script()),
    )


def filters(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the filters of the page with their values."""
    keys = {"method": "Method", "data": "Data", "model": "Model", "seed": "Seed"}
    values = {
        "method": methods_of(runs),
        **{key: sorted(runs[key].dropna().unique()) for key in ("data", "model", "seed")},
    }
    return [
        {
            "key": key,
            "title": title,
            "choices": [str(value) for value in values[key]],
            "colors": colors_of(values["method"]) if key == "method" else [],
        }
        for key, title in keys.items()
    ]


def colors_of(methods: Sequence[str]) -> list[str]:
    """Return the color of each method in CSS, gray for the dense network."""
    places = {method: place % len(CATEGORIES["light"]) for place, method in enumerate(pruned(methods))}
    return [f"var(--category-{places[method]})" if method in places else DENSE for method in methods]


def chapter_of(title: str, study: StudyFigures) -> dict[str, Any]:
    """Return the variables of the template for a chapter of figures."""
    figures, runs = study.chapters[title], study.frames["runs"]
    chapter: dict[str, Any] = {"id": title.lower().replace(" ", "-"), "title": title, "figures": figures}
    chapter |= {"of_run": any(figure.of_run for figure in figures), "note": ""}
    if chapter["of_run"]:
        held = runs.set_index("run").loc[study.shown_in_detail]
        first, *_ = study.first_shown
        chapter["runs"] = [
            {
                "number": number,
                "text": f"{row['method']}, {row['asked']}, {row['setting']}, seed {row['seed']}",
            }
            for number, row in held.iterrows()
        ]
        chapter["first"] = first
        chapter["note"] = (
            f"To limit its size, the page contains these figures for {len(held)} of {len(runs)} runs: "
            f"for the first seed of each method and amount."
        )
    return chapter


def page_data(study: StudyFigures) -> Any:
    """Return the data of the figures as JSON that is safe inside a script element."""
    from jinja2.utils import htmlsafe_json_dumps

    used = {"runs", *(figure.data for figure in study.all)}
    data = {
        "tables": {name: packed(table) for name, table in study.frames.items() if name in used},
        "of_run": OF_RUN,
        "themes": {name: theme(name, "system-ui, sans-serif") for name in ("light", "dark")},
        "figures": [_figure_data(figure) for figure in study.all],
    }
    return htmlsafe_json_dumps(data, separators=(",", ":"), allow_nan=False)


def _figure_data(figure: DrawnFigure) -> dict[str, Any]:
    """Return the description of a figure for the script."""
    drawing = figure.drawing
    return {
        "name": figure.name,
        "title": figure.title,
        "data": figure.data,
        "panel": drawing.panel,
        "columns": drawing.columns,
        "size": drawing.size,
        "cells": drawing.cells,
        "of_run": figure.of_run,
        "spec": figure.spec,
    }


def packed(table: pd.DataFrame) -> dict[str, Any]:
    """Return a table by column: numbers as they are, texts as codes of a list of values."""
    columns: dict[str, Any] = {}
    for name, column in table.items():
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            numbers = column.astype(object).where(column.notna(), None).tolist()
            columns[str(name)] = [int(v) if isinstance(v, float) and v.is_integer() else v for v in numbers]
        else:
            codes, values = pd.factorize(column)
            columns[str(name)] = {"values": [str(value) for value in values], "codes": codes.tolist()}
    return columns


def _asset(name: str) -> str:
    return (ASSETS / name).read_text(encoding="utf-8")


def _palette() -> str:
    """Return the colors of the methods as CSS variables, for the filters."""
    light, dark = (
        "".join(f"--category-{number}:{color};" for number, color in enumerate(CATEGORIES[name]))
        for name in ("light", "dark")
    )
    return f":root{{{light}}}:root[data-theme=dark]{{{dark}}}\n"
