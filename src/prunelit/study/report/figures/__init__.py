"""The figures of a study, a file a family."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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

CHAPTERS: dict[str, Callable[[Frames, Sequence[str]], list[Figure]]] = {
    "Accuracy": lambda frames, methods: curves.figures(frames, methods) + pareto.figures(frames, methods),
    "Iterative pruning": rounds.figures,
    "Paths and time": lambda frames, methods: (
        curves.effective(frames, methods) + times.figures(frames, methods)
    ),
    "Layers": layers.figures,
    "Training": training.figures,
    "Inside a run": lambda frames, methods: [
        figure
        for family in (weights, units, kernels, confusion)
        for figure in family.figures(frames, methods)
    ],
}
"""The chapters of the page, in order: a title, and what makes its figures."""

__all__ = ["CHAPTERS", "Figure"]
