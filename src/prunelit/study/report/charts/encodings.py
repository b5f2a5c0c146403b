"""Encodings that several figures share: the color, dash and shape of a method, axes, tooltips."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from prunelit.study.report.charts.theme import DENSE
from prunelit.study.report.order import is_dense

Chart = alt.Chart | alt.LayerChart

# Six shapes, five dashes and twelve colors: the first twelve methods differ in color, and neighbors also in
# shape and dash.
DASHES = [[1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [4, 4]]
SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"]


def layered(*charts: Chart) -> alt.LayerChart:
    """Return charts on top of one another, the first at the bottom."""
    return alt.LayerChart(layer=list(charts))


def wrapped(length: int) -> str:
    """Return the expression of a label in lines of at most ``length`` characters, split at spaces."""
    lines = f"replace(datum.label, regexp('(.{{1,{length}}})( +|$)', 'g'), '$1\\n')"
    return rf"split(trim({lines}), '\n')"


def pruned(methods: Sequence[str]) -> list[str]:
    """Return the methods that prune, which have colors; the dense network is gray."""
    return [method for method in methods if not is_dense(method)]


def by_method(methods: Sequence[str]) -> dict[str, Any]:
    """Return the encodings of a method: a color, the same in all figures, and a dash.

    The dash is omitted from legends, where it would break the outlines of marks. Legends with one domain are
    merged, so the empty name keeps these two separate.
    """
    methods = pruned(methods)
    scale = alt.Scale(domain=methods)
    dashes = [DASHES[number % len(DASHES)] for number in range(len(methods) + 1)]
    return {
        "color": alt.Color("method:N", scale=scale, title=None),
        "strokeDash": alt.StrokeDash(
            "method:N", scale=alt.Scale(domain=[*methods, ""], range=dashes), title=None, legend=None
        ),
    }


def method_marks(methods: Sequence[str]) -> dict[str, Any]:
    """Return the encodings of a method for points: a color and a shape."""
    methods = pruned(methods)
    shapes = [SHAPES[number % len(SHAPES)] for number in range(len(methods))]
    return {
        "color": by_method(methods)["color"],
        "shape": alt.Shape("method:N", scale=alt.Scale(domain=methods, range=shapes), title=None),
    }


def percent(field: str, title: str, axis: type[Any] = alt.Y, **scale: Any) -> Any:
    """Return an axis of percentages."""
    ticks = alt.Axis(format=".2~f")  # if all values are equal, the default has one digit
    return axis(f"{field}:Q", title=f"{title} (%)", scale=alt.Scale(**{"zero": False, **scale}), axis=ticks)


EPOCH_AXIS = alt.Axis(tickMinStep=1, labelExpr="datum.value % 1 ? '' : format(datum.value, 'd')")
"""An axis of epochs, with labels at whole ones."""


def tips(**fields: str) -> list[alt.Tooltip]:
    """Return tooltips by ``field="title"`` or ``field="title|format"``; text if no format is given."""
    tooltips = []
    for field, text in fields.items():
        title, _, number = text.partition("|")
        more: dict[str, Any] = {"format": number, "type": "quantitative"} if number else {"type": "nominal"}
        tooltips.append(alt.Tooltip(field=field, title=title, **more))
    return tooltips


def square_cells(color: alt.Color, **fields: str) -> alt.Chart:
    """Return a heat map over the columns ``row`` and ``column``, with tooltips as :func:`tips` takes them."""
    x, y = alt.X("column:O", axis=None), alt.Y("row:O", axis=None)
    return alt.Chart().mark_rect().encode(x, y, color, tooltip=tips(**fields))


RUN_TIPS = {
    "name": "run",
    "method": "method",
    "setting": "network",
    "asked": "requested amount",
    "seed": "seed",
    "compression": "compression|.3f",
    "flops_sparse": "FLOPs|.3s",
    "top1": "accuracy (%)|.2f",
}
"""The tooltip of a run."""


def dense_line(field: str = "top1") -> alt.LayerChart:
    """Return the mean of each dense method's runs as a line across the panel, named if there are several."""
    means = (
        alt.Chart()
        .transform_filter(f"datum.dense && isValid(datum.{field})")
        .transform_aggregate(groupby=["setting", "method"], level=f"mean({field})", seeds="distinct(seed)")
    )
    hover = tips(
        method="method", setting="network", level="dense network, mean accuracy (%)|.2f", seeds="seeds"
    )
    lines = means.mark_rule(strokeDash=[1, 3], strokeWidth=2, color=DENSE).encode(y="level:Q", tooltip=hover)
    names = (
        means.transform_joinaggregate(methods="count()", groupby=["setting"])
        .transform_filter("datum.methods > 1")
        .mark_text(align="left", baseline="bottom", dy=-2, color=DENSE)
        .encode(x=alt.value(3), y="level:Q", text="method:N")
    )
    return layered(lines, names)
