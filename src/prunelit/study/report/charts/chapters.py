"""The chapters of the page that contain figures, sorted by their numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Chapter:
    """A chapter of the page; ``order`` determines its position."""

    title: str
    order: int


ACCURACY = Chapter("Accuracy", 10)
ITERATIVE_PRUNING = Chapter("Iterative pruning", 20)
PATHS_AND_TIME = Chapter("Paths and time", 30)
LAYERS = Chapter("Layers", 40)
TRAINING = Chapter("Training", 50)
INSIDE_A_RUN = Chapter("Inside a run", 60)
