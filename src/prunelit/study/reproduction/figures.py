"""Figures of published reports that the report of a study lacks; each shows the runs of one sweep."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd

from prunelit.durable import write_atomically
from prunelit.study.report.charts.encodings import layered, method_marks, percent
from prunelit.study.report.charts.theme import DENSE, theme
from prunelit.study.report.page.raster import write_png
from prunelit.study.report.page.vega import VEGA_LITE
from prunelit.study.report.records.csv_files import read_rows
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.literature import DESTROYED


@dataclass(frozen=True)
class Drawn:
    """A chart of one panel: ``rows`` is its data, and ``caption`` explains how to read it."""

    title: str
    caption: str
    chart: alt.LayerChart
    rows: pd.DataFrame
    size: tuple[int, int] = (460, 300)


def draw(name: str, study: Study, folder: Path) -> list[Path]:
    """Write one of :data:`MAKERS` to ``folder`` as SVG and PNG, unless the runs lack its numbers."""
    drawn = MAKERS[name](study)
    if drawn.rows.empty:
        return []
    import vl_convert

    width, height = drawn.size
    chart = drawn.chart.properties(width=width, height=height, data=alt.NamedData("rows"))
    spec: dict[str, Any] = chart.to_dict(validate=False, context={"pre_transform": False})
    title = {"text": drawn.title, "subtitle": drawn.caption}
    data = {"rows": json.loads(drawn.rows.to_json(orient="records"))}
    spec |= {"title": title, "config": theme("light"), "datasets": data}
    folder.mkdir(parents=True, exist_ok=True)
    svg = folder / f"{name}.svg"
    write_atomically(svg, vl_convert.vegalite_to_svg(spec, vl_version=VEGA_LITE))
    write_png(svg)
    return [svg, svg.with_suffix(".png")]


def _regression(over: Callable[[Study], pd.Series[Any]], title: str) -> Callable[[Study], Drawn]:
    """Return a maker of accuracies over some number of a run, with a straight line fitted for each method."""

    def make(study: Study) -> Drawn:
        runs = study.complete
        rows = pd.DataFrame({"method": runs["pruner"], "top1": runs["best_top1"]}).reset_index()
        rows["over"] = over(study).loc[runs.index].to_numpy()
        # The report does the same: networks that learned nothing would distort the lines.
        rows = rows[(rows["top1"] >= DESTROYED) & rows["over"].notna()]
        caption = (
            "Best test accuracy of each run; lines are least squares. "
            f"Left out: {len(runs) - len(rows)} of {len(runs)} runs."
        )
        return Drawn(f"Accuracy against {title}", caption, _fitted(rows, title), rows)

    return make


def _fitted(rows: pd.DataFrame, title: str) -> alt.LayerChart:
    methods = sorted(rows["method"].unique())
    axis = alt.X("over:Q", title=title[:1].upper() + title[1:], scale=alt.Scale(zero=False))
    height, marks = percent("top1", "Best test accuracy"), method_marks(methods)
    dots = alt.Chart().mark_point(size=25, filled=True, opacity=0.6).encode(axis, height, **marks)
    lines = alt.Chart().transform_regression("over", "top1", groupby=["method"]).mark_line(strokeWidth=2)
    return layered(dots, lines.encode(axis, height, marks["color"]))


def _thresholds(study: Study) -> Drawn:
    """Return the accuracy after pruning at each threshold: means over seeds, and each seed."""
    places = {str(run): folder for run, folder in study.complete["folder"].items()}
    rows = read_rows(places, "thresholds.csv", [])
    if "threshold" not in rows:
        rows = pd.DataFrame({"run": [], "threshold": [], "top1": [], "method": []})
    rows = rows.join(study.complete["pruner"].rename("method"), on="run") if len(rows) else rows
    axis = alt.X("threshold:Q", title="Threshold")
    height, marks = percent("top1", "Test accuracy"), method_marks(sorted(rows["method"].unique()))
    dots = alt.Chart().mark_point(size=20, filled=True, opacity=0.5).encode(axis, height, **marks)
    means = alt.Chart().transform_aggregate(groupby=["method", "threshold"], top1="mean(top1)")
    lines = means.mark_line(strokeWidth=2).encode(axis, height, marks["color"])
    caption = "Test accuracy after pruning at each threshold, without training: lines are means over seeds."
    return Drawn("Accuracy against threshold", caption, layered(dots, lines), rows)


def _errors(study: Study) -> Drawn:
    """Return the error of each run by sparsity: a box and its points for each method."""
    runs = study.complete
    rows = pd.DataFrame({"method": runs["pruner"], "error": 100 - runs["best_top1"]}).reset_index()
    rows["asked"] = runs["asked_sparsity"].map(lambda value: f"{value:g}").to_numpy()
    rows = rows[rows["error"] <= 100 - DESTROYED]
    methods = sorted(rows["method"].unique())
    where = {"x": alt.X("asked:N", title="Sparsity"), "y": alt.Y("error:Q", title="Test error (%)")}
    pruned, dense = (alt.Chart().transform_filter(f"datum.method {sign} 'none'") for sign in ("!=", "=="))
    boxes = pruned.mark_boxplot(size=8, extent="min-max").encode(
        **where, xOffset="method:N", color=method_marks(methods)["color"]
    )
    dense_boxes = dense.mark_boxplot(size=8, extent="min-max", color=DENSE).encode(**where)
    caption = (
        "Errors of the best epoch; boxes span the middle half of the runs; sparsity 0 is dense. Left out: "
        f"{len(runs) - len(rows)} of {len(runs)} runs, whose accuracy stayed below {DESTROYED:g} %."
    )
    return Drawn("Test error by sparsity", caption, layered(boxes, dense_boxes), rows, (900, 300))


def _round_sparsities(study: Study) -> Drawn:
    """Return the sparsity before and after each pruning, and after the training that follows."""
    wanted = {
        "sparsity_before": "before pruning",
        "sparsity_after": "after pruning",
        "sparsity_trained": "after retraining",
    }
    there = [key for key in wanted if key in study.rounds]
    rows = study.rounds[study.rounds["run"].isin(study.complete.index)][["run", "round", *there]]
    rows = rows.melt(["run", "round"], there, "when", "sparsity").dropna()
    rows = rows.join(study.complete["pruner"].rename("method"), on="run")
    rows = rows.assign(sparsity=100 * rows["sparsity"].astype(float), when=rows["when"].map(wanted))
    chart = (
        alt.Chart()
        .mark_line(point=True)
        .encode(
            alt.X("round:Q", title="Round", axis=alt.Axis(tickMinStep=1)),
            percent("mean(sparsity)", "Sparsity"),
            alt.Color("when:N", title=None),
            alt.StrokeDash("method:N", title=None),
        )
    )
    caption = "Where pruned weights may grow back, retraining lowers the sparsity. Means over seeds."
    return Drawn("Sparsity by round", caption, layered(chart), rows)


def _widths(study: Study) -> pd.Series[Any]:
    """Return the width of each run's hidden layer."""
    widths = {run: (study.configs[str(run)].get("model") or {}).get("width") for run in study.runs.index}
    return pd.Series(widths, dtype=float)


MAKERS: Mapping[str, Callable[[Study], Drawn]] = {
    "accuracy_by_sparsity": _regression(
        lambda study: 100 * study.runs["asked_sparsity"].astype(float), "sparsity (%)"
    ),
    "accuracy_by_width": _regression(_widths, "units of the hidden layer"),
    "thresholds": _thresholds,
    "errors": _errors,
    "round_sparsities": _round_sparsities,
}
"""Figures by their name in conf/reproduce/NAME.yaml."""


def own_pictures(names: Sequence[str]) -> list[str]:
    """Return the names that are drawn here, and not by the report of a study."""
    return [name for name in names if name in MAKERS]
