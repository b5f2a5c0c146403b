"""The figures of a study, a file a family."""

from __future__ import annotations

from prunelit.study.report.figures import (
    confusion,
    curves,
    kernels,
    layers,
    pareto,
    rounds,
    times,
    training,
    units,
    weights,
)
from prunelit.study.report.figures.figure import Figure, Frames

FAMILIES = (curves, pareto, rounds, layers, training, times, weights, units, kernels, confusion)
"""In the order of the page."""


def all_figures(frames: Frames, methods: list[str]) -> list[Figure]:
    """Return the figures that these tables have rows for."""
    return [figure for family in FAMILIES for figure in family.figures(frames, methods)]
