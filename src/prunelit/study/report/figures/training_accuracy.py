"""Training: accuracy after each epoch, one panel for each method."""

from __future__ import annotations

from collections.abc import Sequence

from prunelit.study.report.charts.chapters import TRAINING
from prunelit.study.report.charts.encodings import percent
from prunelit.study.report.charts.epoch_curves import epoch_drawing
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.tables import EPOCHS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the curves; None if no run was trained."""
    return epoch_drawing(frames, "top1", percent("value", "Accuracy"))


FIGURE = Figure(TRAINING, 10, "Training: accuracy after each epoch", EPOCHS, draw)
