"""The figures of the report: each module here is one figure, and the page finds it by itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib import import_module
from pkgutil import iter_modules

from prunelit.study.report.charts.figure import Figure


@cache
def all_figures() -> tuple[Figure, ...]:
    """Return the figures in the order of the page: by chapter, then by their own numbers."""
    names = [module.name for module in iter_modules(__path__)]
    figures = [replace(import_module(f"{__name__}.{name}").FIGURE, name=name) for name in names]
    return tuple(sorted(figures, key=lambda figure: (figure.chapter.order, figure.order, figure.name)))
