"""All tables of a report, as grids of text for the terminal, Markdown, LaTeX and the page."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from prunelit.study.report.order import group_key, listed_amounts
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.blocks import TOLERANCE, Block, Column, Entry, blocks
from prunelit.study.report.tables.by_section import (
    class_grids,
    layer_grids,
    literature_grids,
    round_grids,
    threshold_grids,
)
from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.report.tables.latency import latency_grids
from prunelit.study.report.tables.literature import against_literature
from prunelit.study.report.tables.metrics import METRICS, Metric

MISSING = "–"
PUBLISHED = "Against the literature"
"""The section that compares with published numbers."""


@dataclass(frozen=True)
class Tables:
    """The tables of a report.

    Attributes:
        metric: the number that the first tables are about.
        blocks: a block for each data set and model, by that metric.
        results: a grid a block: mean and standard deviation over seeds.
        problems: what failed, collapsed, stopped or could not be read; None if nothing did.
        by_section: all other grids, by section.
        literature: the comparison with published numbers, None if it was not requested; see
            :func:`~prunelit.study.report.tables.literature.against_literature`.
    """

    metric: Metric
    blocks: list[Block]
    results: list[Grid]
    problems: Grid | None
    by_section: dict[str, list[Grid]]
    literature: pd.DataFrame | None


def make_tables(study: Study, metric: Metric, published: bool = False) -> Tables:
    """Return the tables of a study; those with published numbers only if ``published``."""
    main = blocks(study, metric)
    shown = [METRICS[key] for key in OTHERS if key != metric.key]
    others = [results_grid(block) for other in shown for block in blocks(study, other)]
    literature = against_literature(study) if published else None
    by_section = {
        PUBLISHED: [] if literature is None else literature_grids(literature),
        "95 % confidence intervals": [interval_grid(block) for block in main if _has_intervals(block)],
        "Comparisons": [grid for block in main if (grid := comparison_grid(block)) is not None],
        "Other measurements": others,
        "Latency": latency_grids(study),
        "Round by round": round_grids(study),
        "Thresholds": threshold_grids(study),
        "Layers": layer_grids(study),
        "Classes": class_grids(study),
    }
    return Tables(
        metric, main, [results_grid(block) for block in main], problem_grid(study), by_section, literature
    )


OTHERS = ("top1", "best_top1", "top5", "effective_density", "flops_sparse", "seconds")
"""The metrics that have tables of their own in the files."""


def results_grid(block: Block) -> Grid:
    """Return mean ± standard deviation, one row per method and one column per amount."""
    usual = _usual_seeds(block)
    over = f"mean ± standard deviation over {usual} seeds" if usual > 1 else "one seed"
    rows = [
        [Cell(method), *(_value_cell(block, method, column, usual) for column in block.columns)]
        for method in block.methods
    ]
    return Grid(
        title=f"{block.data}, {block.model}: {block.metric.title} ({over})",
        header=_header(block),
        rows=rows,
        notes=_notes(block),
        data=block.data,
        model=block.model,
        methods=[[method] for method in block.methods],
    )


def _header(block: Block) -> list[str]:
    return ["method", *(f"{column.asked}\n{_kept(column.density)}".rstrip() for column in block.columns)]


def _kept(density: float) -> str:
    return "" if math.isnan(density) or density == 1 else f"{100 * density:.4g} % kept"


def _usual_seeds(block: Block) -> int:
    """Return the number of seeds that most entries have."""
    counts = [entry.summary.n for entry in block.entries.values() if entry.summary.n]
    return max(sorted(set(counts), reverse=True), key=counts.count, default=0)


def _value_cell(block: Block, method: str, column: Column, usual: int) -> Cell:
    entry = block.entries.get((method, column.key))
    if entry is None:
        return Cell(MISSING, tone="dim")
    remarks = _remarks(entry, usual)
    if not entry.summary.n:
        if entry.counts.get("complete"):
            return Cell("n/a", tone="dim")
        return Cell(", ".join(remarks) or MISSING, tone="bad" if entry.counts.get("failed") else "dim")
    text = mean_and_sd(block.metric, entry) + _marks(entry, column)
    if math.isnan(column.density) and not math.isnan(entry.density):
        remarks.append(f"{100 * entry.density:.3g} % kept")
    return Cell(f"{text} ({', '.join(remarks)})" if remarks else text, bold=entry.best)


def mean_and_sd(metric: Metric, entry: Entry) -> str:
    """Return ``98.12 ± 0.15``; without the deviation where there is one seed."""
    mean = metric.show(entry.summary.mean)
    return mean if entry.summary.n < 2 else f"{mean} ± {metric.show(entry.summary.sd, entry.summary.mean)}"


def _remarks(entry: Entry, usual: int) -> list[str]:
    """Return what is not as usual: a number of seeds, failures, runs under way."""
    words = {"failed": "failed", "running": "running", "incomplete": "stopped"}
    remarks = [f"{entry.counts[status]} {word}" for status, word in words.items() if status in entry.counts]
    n = entry.summary.n
    return [f"n = {n}", *remarks] if n and n != usual else remarks


def _marks(entry: Entry, column: Column) -> str:
    missed = abs(entry.density - column.density) > TOLERANCE * column.density
    return ("†" if missed else "") + ("*" if entry.collapsed else "")


def _notes(block: Block) -> list[str]:
    notes = []
    shown = [
        (method, column, block.entries[method, column.key])
        for method in block.methods
        for column in block.columns
        if (method, column.key) in block.entries
    ]
    if len(shown) < len(block.methods) * len(block.columns):
        notes.append(f"{MISSING} no run.")
    missed = [
        f"{method} {100 * entry.density:.4g} % for {100 * column.density:.4g} %"
        for method, column, entry in shown
        if entry.summary.n and "†" in _marks(entry, column)
    ]
    if missed:
        notes.append(f"† kept another share than requested: {'; '.join(missed)}.")
    if any(entry.collapsed for _, _, entry in shown):
        notes.append("* a layer keeps nothing in one or more of these runs.")
    if any(entry.best for _, _, entry in shown):
        notes.append("Bold: better than every other method, paired t-tests over seeds, p < 0.05 after Holm.")
    return notes


def _has_intervals(block: Block) -> bool:
    return any(entry.summary.n > 1 for entry in block.entries.values())


def interval_grid(block: Block) -> Grid:
    """Return 95 % confidence intervals of the mean by Student's t; none is given for one seed."""
    rows = []
    for method in block.methods:
        cells = [Cell(method)]
        for column in block.columns:
            entry = block.entries.get((method, column.key))
            if entry is None or entry.summary.n < 2:
                cells.append(Cell(MISSING, tone="dim"))
            else:
                show, of = block.metric.show, entry.summary
                cells.append(Cell(f"{show(of.low, of.mean)} to {show(of.high, of.mean)} (n = {of.n})"))
        rows.append(cells)
    title = f"{block.data}, {block.model}: {block.metric.title}, 95 % confidence interval of the mean"
    about = [[method] for method in block.methods]
    return Grid(title, _header(block), rows, data=block.data, model=block.model, methods=about)


def comparison_grid(block: Block) -> Grid | None:
    """Return the best method of each column against each of the others; None where no seeds are shared."""
    rows = []
    for column in block.columns:
        means = {
            method: block.metric.better * block.entries[method, column.key].summary.mean
            for method in block.methods
            if (method, column.key) in block.entries and block.entries[method, column.key].summary.n
        }
        if not means or block.metric.better == 0:
            continue
        best = max(means, key=lambda method: means[method])
        for pair in block.comparisons[column.key]:
            if best not in (pair.a, pair.b):
                continue
            sign = 1 if best == pair.a else -1
            other = pair.b if best == pair.a else pair.a
            show = block.metric.show
            ends = sorted((sign * pair.low, sign * pair.high))
            rows.append(
                [
                    *(Cell(column.asked), Cell(best), Cell(other), Cell(str(pair.n))),
                    Cell(show(sign * pair.difference)),
                    Cell(f"{show(ends[0])} to {show(ends[1])}"),
                    *(Cell(p_text(pair.p)), Cell(p_text(pair.p_holm), bold=pair.p_holm < 0.05)),
                ]
            )
    if not rows:
        return None
    return Grid(
        title=f"{block.data}, {block.model}: {block.metric.title}, the best against the others",
        header=["asked", "best", "other", "seeds", "difference", "95 % interval", "p", "p, Holm"],
        rows=rows,
        notes=[
            "Two-sided paired t-tests on common seeds; Holm's correction over all pairs of methods in a "
            "column."
        ],
        left=3,
        data=block.data,
        model=block.model,
        methods=[[row[1].text, row[2].text] for row in rows],
    )


def p_text(p: float) -> str:
    """Return a p-value with three decimals, ``< 0.001`` below."""
    return "n/a" if math.isnan(p) else ("< 0.001" if p < 0.001 else f"{p:.3f}")


def problem_grid(study: Study) -> Grid | None:
    """Return failures, stopped runs, collapsed layers and unreadable files; None if there are none."""
    rows = []
    for status, word in (("failed", "failed"), ("incomplete", "stopped")):
        chosen = study.runs[study.runs["status"] == status]
        for run, row in chosen.iterrows():
            rows.append([Cell(word, tone="bad"), Cell(str(run)), Cell(row["error"] or "")])
    complete = study.complete.assign(empty=[", ".join(names) for names in study.complete["collapsed"]])
    collapsed = complete[complete["empty"] != ""]
    groups = collapsed.groupby(["data", "model", "label", "empty"])
    for (data, model, label, empty), runs in sorted(groups, key=lambda group: group_key(group[0])):
        asked = listed_amounts(runs["asked"])
        where = f"{data}, {model}: {label}, {asked} ({len(runs)} runs)" if len(runs) > 1 else runs.index[0]
        top1 = runs["top1"].dropna()
        ends = (f"{value:.2f}" for value in (top1.min(), top1.max()))
        reached = f"; top 1 is {'–'.join(dict.fromkeys(ends))} %" if len(top1) else ""
        why = f"nothing is kept in {empty}{reached}"
        rows.append([Cell("collapsed", tone="bad"), Cell(where), Cell(why)])
    for line in study.skipped:
        path, _, why = line.partition(": ")
        rows.append([Cell("skipped", tone="bad"), Cell(path), Cell(why)])
    return Grid("What went wrong", ["what", "where", "why"], rows, left=3) if rows else None
