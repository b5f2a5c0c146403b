"""How each number of a result is named, scaled and judged."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

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
        least: the least value that there can be, in the column's unit.
        greatest: the greatest one.
        large: what the values are shown in where they are large, such as ``millions``; small ones are whole.
    """

    key: str
    title: str
    better: int = 0
    scale: float = 1.0
    digits: int | None = 2
    least: float = -math.inf
    greatest: float = math.inf
    large: str = ""

    def fitted(self, values: Iterable[float]) -> Metric:
        """Return the metric with the unit that fits values: counts are whole up to 999,999, else millions."""
        if not self.large:
            return self
        most = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
        if most < 1e6:
            return replace(self, digits=0, large="")
        return replace(self, title=f"{self.title}, {self.large}", scale=1e-6, large="")

    def show(self, value: float, beside: float | None = None) -> str:
        """Return a value of the column as text in the metric's unit, rounded once.

        Args:
            value: what is shown.
            beside: the mean that ``value`` is a spread of: both are shown with the same decimals.
        """
        if math.isnan(value):
            return "n/a"
        measure = self.scale * (value if beside is None else beside)
        digits = _decimals(measure) if self.digits is None else self.digits
        text = f"{value * self.scale:,.{digits}f}"
        return text.removeprefix("-") if not text.strip("-0.,") else text


def _decimals(value: float) -> int:
    """Return the decimals of a number's four significant digits."""
    return min(9, max(0, 3 - math.floor(math.log10(abs(value))))) if value else 0


FORMS = {
    "dense": "dense network",
    "masked": "masked network",
    "cut": "cut network",
    "half": "network in half precision",
    "2to4": "network in half precision with 2:4 products",
}
"""The forms of a network whose latency is measured, by their part of the key."""

LATENCIES = (
    Metric("latency_predicted", "latency of one input, cut network, predicted, ms", -1, digits=None, least=0),
    *(
        Metric(
            f"latency_{form}_{size}",
            f"latency of {size} input{plural}, {words}, ms",
            -1,
            digits=None,
            least=0,
        )
        for form, words in FORMS.items()
        for size, plural in ((1, ""), (64, "s"))
    ),
)

METRICS = {
    metric.key: metric
    for metric in (
        Metric("top1", "test accuracy, top 1, %", 1, least=0, greatest=100),
        Metric("top5", "test accuracy, top 5, %", 1, least=0, greatest=100),
        Metric("best_top1", "best test accuracy over epochs, top 1, %", 1, least=0, greatest=100),
        Metric("top1_before", "test accuracy before the last pruning, top 1, %", 1, least=0, greatest=100),
        Metric("top1_after", "test accuracy just after the last pruning, top 1, %", 1, least=0, greatest=100),
        Metric("top1_repaired", "test accuracy after the last repair, top 1, %", 1, least=0, greatest=100),
        Metric(
            "top1_recalibrated",
            "test accuracy after the last recalibration, top 1, %",
            1,
            least=0,
            greatest=100,
        ),
        Metric("test_loss", "test loss, nats", -1, digits=4, least=0),
        Metric("density", "kept share, %", scale=100, least=0, greatest=1),
        Metric("sparsity", "removed share, %", scale=100, least=0, greatest=1),
        Metric("compression", "log10(prunable / kept), reached", digits=3, least=0),
        Metric(
            "effective_density",
            "kept share that lies on a path from input to output, %",
            1,
            scale=100,
            least=0,
            greatest=1,
        ),
        Metric("prunable", "prunable parameters", digits=0, least=0),
        Metric("kept", "kept parameters", digits=0, least=0),
        Metric("flops_dense", "FLOPs of the dense network", digits=None, least=0, large="millions"),
        Metric("flops_sparse", "FLOPs, sparse", -1, digits=None, least=0, large="millions"),
        Metric("parameters", "parameters", digits=0, least=0),
        Metric("parameters_compact", "parameters, cut", -1, digits=0, least=0),
        Metric("flops_compact", "FLOPs, cut", -1, digits=None, least=0, large="millions"),
        Metric("epochs", "epochs", digits=0, least=0),
        Metric("rounds", "rounds of pruning", digits=0, least=0),
        Metric("seconds", "seconds of pruning, training and testing", -1, least=0),
        Metric("prune_seconds", "seconds of pruning", -1, least=0),
        Metric("train_seconds", "seconds of training", -1, least=0),
        Metric("test_seconds", "seconds of testing", -1, least=0),
        *LATENCIES,
        Metric("peak_memory_bytes", "peak memory, MB", -1, scale=1e-6, digits=0, least=0),
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
