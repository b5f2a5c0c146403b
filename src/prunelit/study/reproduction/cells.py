"""Every published number of a report next to our number: one row each, whether it was run or not."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from prunelit.study.report.records.study import Study, read_study
from prunelit.study.report.tables.literature import matching_runs, parse_setting, published_texts
from prunelit.study.report.tables.statistics import Summary, summarise
from prunelit.study.reproduction.description import Report, Sweep
from prunelit.study.reproduction.requests import Command
from prunelit.study.reproduction.values import value_of
from prunelit.study.reproduction.verdict import Evidence, Verdict, verdict

FACT = ("report", "table", "data", "model", "method", "setting", "metric", "value")
"""Columns that name a published number."""
COLUMNS = (
    *FACT,
    *("sweep", "scale", "n", "ours", "sd", "low", "high", "device", "otherwise", "difference"),
    *("verdict", "why", "remark"),
)
"""Columns of the cells, in docs/reproduction/NAME.csv too."""
RATIOS = ("run_seconds",)
"""Metrics for which our number is a ratio, so that it is not subtracted from the published number."""
ENDS = {
    **dict.fromkeys(("top1", "top5", "top1_max", "error_percent", "class_accuracy_percent"), (0.0, 100.0)),
    "density_percent": (0.0, 100.0),
    "destroyed_of_10": (0.0, 10.0),
}
"""The smallest and the largest possible value of a metric; confidence intervals are clipped to them."""


def read_sweeps(commands: Sequence[Command]) -> dict[str, Study]:
    """Return the runs of each sweep that has any. Runs that the commands do not request are left out."""
    folders: dict[str, list[Path]] = {}
    for command in commands:
        there = [run.folder for run in command.runs if (run.folder / "result.json").is_file()]
        folders.setdefault(command.sweep.name, []).extend(there)
    return {name: read_study(places) for name, places in folders.items() if places}


def compare(
    report: Report,
    studies: Mapping[str, Study],
    scale: float = 1.0,
    otherwise: Callable[[Sweep], str] = lambda sweep: "",
) -> pd.DataFrame:
    """Return a row for each published number of a report.

    Args:
        report: its description.
        studies: the runs of each sweep.
        scale: of these runs.
        otherwise: returns the settings in which the runs of a sweep differ from the published runs.

    ``ours`` is the mean over ``n`` seeds, ``sd`` its standard deviation, ``low`` to ``high`` the 95 %
    confidence interval of the mean. ``verdict`` is one of
    :data:`~prunelit.study.reproduction.verdict.VERDICTS`, ``why`` says why, and ``remark`` is what else is
    to be said of the published number.
    """
    facts = published_texts()
    facts = facts[facts["report"] == report.key]
    asked = {name: otherwise(sweep) for name, sweep in report.sweeps.items()}
    rows = [_row(report, fact, studies, scale, asked) for fact in facts.to_dict("records")]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(
    report: Report,
    fact: dict[Any, Any],
    studies: Mapping[str, Study],
    scale: float,
    asked: Mapping[str, str],
) -> dict[str, Any]:
    """Return the row of one published number."""
    sweep, ours, device = "", summarise([]), ""
    for name in sweeps_of(report, str(fact["table"])):
        if name in studies:
            found, on = _ours(report, studies[name], fact)
            if found.n > ours.n:
                sweep, ours, device = name, found, on
    known = {key: fact[key] for key in FACT} | {"sweep": sweep, "n": ours.n, "device": device}
    if ours.n:
        known |= {"scale": scale, "ours": ours.mean, "sd": ours.sd, "low": ours.low, "high": ours.high}
        known |= {"otherwise": asked[sweep]}
    judged = judge(report, fact, ours, scale, asked.get(sweep, ""))
    known |= {"verdict": judged.word, "why": judged.why, "remark": _remarks(fact)}
    if ours.n and fact["value"] and fact["metric"] not in RATIOS:
        known["difference"] = ours.mean - float(fact["value"])
    return known


def sweeps_of(report: Report, table: str) -> Sequence[str]:
    """Return the names of the sweeps that give the numbers of a table."""
    place = report.tables[table]
    return report.tables[place.same_as].sweeps if place.same_as else place.sweeps


def judge(report: Report, fact: Mapping[Any, Any], ours: Summary, scale: float, otherwise: str) -> Verdict:
    """Return the verdict on one published number."""
    return verdict(
        Evidence(
            ours,
            str(fact["value"]),
            scale,
            doubt=report.doubt(fact),
            otherwise=otherwise,
            reason=report.reason(fact),
            of_ten=fact["metric"] == "destroyed_of_10",
        )
    )


def runs_of(report: Report, study: Study, fact: Mapping[str, str]) -> pd.DataFrame:
    """Return the complete runs that repeat a published number."""
    data, model = (report.names.get(fact[key], fact[key]) for key in ("data", "model"))
    runs = study.complete
    runs = runs[(runs["data"] == data) & (runs["model"] == model)]
    if report.by_method:
        return runs[runs["pruner"] == fact["method"]]
    return matching_runs(study, runs, fact["method"], parse_setting(fact["setting"]))


def _ours(report: Report, study: Study, fact: Mapping[str, str]) -> tuple[Summary, str]:
    """Return our number over seeds, and the devices that it was measured on."""
    runs, setting = runs_of(report, study, fact), parse_setting(fact["setting"])
    values = [value_of(study, str(run), fact["metric"], setting) for run in runs.index]
    kept = pd.Series(values, runs.index, dtype=float).dropna()
    by_seed = kept.groupby(runs["seed"].loc[kept.index]).mean()
    devices = sorted(set(map(str, runs["device"].loc[kept.index])))
    ends = ENDS.get(fact["metric"], (-math.inf, math.inf))
    if fact["metric"] == "kept" and "params" in setting:
        ends = (0.0, float(setting["params"]))
    return summarise(list(by_seed)).within(*ends), ", ".join(devices)


def _remarks(fact: Mapping[Any, Any]) -> str:
    return "; ".join(str(fact[key]) for key in ("doubt", "note") if fact[key])


def judged_again(report: Report, cells: pd.DataFrame) -> pd.DataFrame:
    """Return cells with verdicts and remarks made again from their numbers."""
    facts = published_texts()
    texts = {tuple(row[key] for key in FACT): row for row in facts.to_dict("records")}
    rows = []
    for row in cells.to_dict("records"):
        fact = texts[tuple(row[key] for key in FACT)]
        ours = Summary(int(row["n"]), row["ours"], row["sd"], row["low"], row["high"])
        otherwise = row["otherwise"] if isinstance(row["otherwise"], str) else ""
        judged = judge(report, fact, ours, float(row["scale"] or 1), otherwise)
        rows.append({**row, "verdict": judged.word, "why": judged.why, "remark": _remarks(fact)})
    return pd.DataFrame(rows, columns=list(COLUMNS))
