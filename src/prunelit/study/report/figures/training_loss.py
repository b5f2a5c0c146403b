"""Training: loss after each epoch, one panel for each method."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt

from prunelit.study.report.charts.chapters import TRAINING
from prunelit.study.report.charts.epoch_curves import epoch_drawing
from prunelit.study.report.charts.figure import Drawing, Figure, Frames
from prunelit.study.report.charts.tables import EPOCHS


def draw(frames: Frames, methods: Sequence[str]) -> Drawing | None:
    """Return the curves; None if no run was trained."""
    height = alt.Y("value:Q", title="Loss (nats)", scale=alt.Scale(type="log", nice=False))
    return epoch_drawing(frames, "loss", height, " Cross-entropy in nats, on a logarithmic axis.")


FIGURE = Figure(TRAINING, 20, "Training: loss after each epoch", EPOCHS, draw)
