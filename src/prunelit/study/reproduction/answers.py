"""The results of the runs that answer a question: means over seeds, one row per method and amount."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pandas as pd

from prunelit.study.report.order import method_key, natural_key
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.statistics import summarise
from prunelit.study.reproduction.description import Question, Report

COLUMNS = ("question", "method", "asked", "metric", "n", "mean", "sd", "low", "high", "scale", "device")
"""Columns of the answers, in docs/reproduction/NAME.answers.csv too."""


def answers(report: Report, studies: Mapping[str, Study], scale: float) -> pd.DataFrame:
    """Return a row for each question, method, amount and metric that was run."""
    rows = [
        {"question": question.asks, "scale": scale, **row}
        for question in report.questions
        if question.sweep in studies
        for row in _rows(studies[question.sweep], question)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(study: Study, question: Question) -> list[dict[str, object]]:
    rows = []
    groups = study.complete.groupby(["label", "asked"])
    order = sorted(groups, key=lambda group: (method_key(str(group[0][0])), natural_key(str(group[0][1]))))
    for (label, asked), runs in order:
        devices = ", ".join(sorted(set(map(str, runs["device"]))))
        for metric in question.shows:
            of = summarise(list(runs.groupby("seed")[metric].mean()))
            numbers = {"n": of.n, "mean": of.mean, "sd": of.sd, "low": of.low, "high": of.high}
            known = {"method": label, "asked": asked, "metric": metric, "device": devices}
            rows.append({**known, **numbers})
    return rows


def answer_grid(question: Question, rows: pd.DataFrame) -> Grid | None:
    """Return the table of one question, None if none of its runs exists."""
    rows = rows[rows["question"] == question.asks]
    if rows.empty:
        return None
    shown = [metric for metric in question.shows if metric in set(rows["metric"])]
    lines = []
    for (method, asked), group in rows.groupby(["method", "asked"], sort=False):
        of = group.set_index("metric")
        texts = [_text(of.loc[metric]) if metric in of.index else "–" for metric in shown]
        first = group.iloc[0]
        where = [str(first["n"]), f"{first['scale']:g}", str(first["device"])]
        lines.append([Cell(str(method)), Cell(str(asked)), *map(Cell, texts), *map(Cell, where)])
    titles = [METRICS[metric].title if metric in METRICS else metric for metric in shown]
    return Grid("", ["method", "asked", *titles, "seeds", "scale", "device"], lines, left=2)


def _text(row: pd.Series) -> str:
    """Return mean and standard deviation."""
    if math.isnan(row["mean"]):
        return "n/a"
    return f"{row['mean']:.2f}" if math.isnan(row["sd"]) else f"{row['mean']:.2f} ± {row['sd']:.2f}"
