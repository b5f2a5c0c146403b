"""How each number of a result is named, scaled and judged."""

from __future__ import annotations

import math
from dataclasses import dataclass

from prunelit.request import BadRequest, nearest


@dataclass(frozen=True)
class Metric:
    """A number of a run, as tables and pictures show it.

    Attributes:
        key: the column of ``Study.runs``.
        title: what it is, with its unit.
        better: 1 if more is better, -1 if less is, 0 if neither.
        scale: what its values are multiplied with to be shown.
        digits: decimals shown; None: four significant digits.
    """

    key: str
    title: str
    better: int = 0
    scale: float = 1.0
    digits: int | None = 2

    def show(self, value: float) -> str:
        """Return a value of the column as text in the metric's unit."""
        if math.isnan(value):
            return "n/a"
        shown = value * self.scale
        return f"{shown:.4g}" if self.digits is None else f"{shown:.{self.digits}f}"


METRICS = {
    metric.key: metric
    for metric in (
        Metric("top1", "test accuracy, top 1, %", 1),
        Metric("top5", "test accuracy, top 5, %", 1),
        Metric("best_top1", "best test accuracy over epochs, top 1, %", 1),
        Metric("top1_before", "test accuracy before the last pruning, top 1, %", 1),
        Metric("top1_after", "test accuracy just after the last pruning, top 1, %", 1),
        Metric("test_loss", "test loss, nats", -1, digits=4),
        Metric("density", "kept share, %", scale=100),
        Metric("sparsity", "removed share, %", scale=100),
        Metric("compression", "log10(prunable / kept)", digits=3),
        Metric("effective_density", "kept share that lies on a path from input to output, %", 1, scale=100),
        Metric("prunable", "prunable parameters", digits=0),
        Metric("kept", "kept parameters", digits=0),
        Metric("flops_dense", "FLOPs of the dense network, millions", scale=1e-6, digits=None),
        Metric("flops_sparse", "FLOPs, sparse, millions", -1, scale=1e-6, digits=None),
        Metric("epochs", "epochs", digits=0),
        Metric("rounds", "rounds of pruning", digits=0),
        Metric("seconds", "seconds of pruning, training and testing", -1),
        Metric("prune_seconds", "seconds of pruning", -1),
        Metric("train_seconds", "seconds of training", -1),
        Metric("test_seconds", "seconds of testing", -1),
        Metric("peak_memory_bytes", "peak memory, MB", -1, scale=1e-6, digits=0),
    )
}
"""By column of ``Study.runs``."""


def metric_named(name: str) -> Metric:
    """Return the metric of that name.

    Raises:
        BadRequest: there is none.
    """
    if name not in METRICS:
        raise BadRequest("--metric", name, nearest(name, list(METRICS)))
    return METRICS[name]
