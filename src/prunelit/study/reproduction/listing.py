"""What ``python -m prunelit.reproduce --list`` prints: the sweeps of reports and their progress."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from rich.table import Table

from prunelit.amount import KEYS as AMOUNTS
from prunelit.study.report.terminal import console
from prunelit.study.reproduction.description import Report, Sweep, read_report
from prunelit.study.reproduction.durations import Paces, in_words, seconds_of, seconds_of_runs
from prunelit.study.reproduction.requests import Request, commands


def say_list(names: Sequence[str], request: Request, measure: bool = False) -> None:
    """Print the sweeps of reports, the number of complete runs, and the estimated time of the others.

    Args:
        names: the names of the reports.
        request: the options of the command.
        measure: whether to train an epoch of each sweep that has no complete run and was not measured yet.
    """
    paces, screen = Paces(request.output_dir / "reproduce" / "epochs.json"), console()
    for name in names:
        report = read_report(name)
        table = Table(title=f"{name}: {report.title}", title_justify="left")
        for head in ("sweep", "tables and figures", "runs", "done", "left"):
            table.add_column(head, justify="right" if head in ("runs", "done") else "left")
        total: list[float | None] = []
        for sweep in report.serving(None):
            if measure:
                _measure(report, sweep, request, paces)
            runs, done, seconds = _state(report, sweep, request, paces)
            total.append(seconds)
            table.add_row(
                sweep.name, ", ".join(places(report, sweep)), str(runs), str(done), in_words([seconds])
            )
        screen.print(table)
        screen.print(f"left of {name}, one run at a time: {in_words(total)}\n")


def _state(report: Report, sweep: Sweep, request: Request, paces: Paces) -> tuple[int, int, float | None]:
    """Return the number of runs of a sweep, the number of complete runs, and an estimate for the others.

    A config is composed only for what was begun: that takes seconds for each method.
    """
    if not request.overrides and not any(request.folder(report, sweep).glob("*/result.json")):
        runs = number_of_runs(sweep, request)
        return runs, 0, seconds_of(sweep, request.scale, paces.of(_place(report, sweep)), runs)
    wanted = commands(report, request, [sweep])
    folders = [run.folder for command in wanted for run in command.runs]
    left = sum(len(command.left) for command in wanted)
    mean = seconds_of_runs(folder for folder in folders if (folder / "result.json").is_file())
    if mean is not None or not left:
        return len(folders), len(folders) - left, left * (mean or 0.0)
    pace = paces.of(_place(report, sweep))
    return len(folders), len(folders) - left, seconds_of(sweep, request.scale, pace, left)


def _measure(report: Report, sweep: Sweep, request: Request, paces: Paces) -> None:
    if not any(request.folder(report, sweep).glob("*/result.json")):
        paces.measure(_place(report, sweep), commands(report, request, [sweep])[0])


def _place(report: Report, sweep: Sweep) -> str:
    return f"{report.name}/{sweep.name}"


def number_of_runs(sweep: Sweep, request: Request) -> int:
    """Return how many runs a sweep has, from its overrides alone.

    The dense network has neither an amount nor options of a pruner: however many of these a sweep has
    values of, it is one run for each seed.
    """
    values = [_values(text) for text in sweep.overrides(request.scale) if not text.startswith("+")]
    counts = {key: len(given) for key, given in values}
    seeds = len(request.seeds_of(sweep))
    pruners = dict(values).get("pruner", [])
    if "none" not in pruners:
        return seeds * prod(counts.values())
    others = [n for key, n in counts.items() if key not in AMOUNTS and not key.startswith("pruner")]
    pruned = [n for key, n in counts.items() if key != "pruner"]
    return seeds * ((len(pruners) - 1) * prod(pruned) + prod(others))


def _values(text: str) -> tuple[str, list[str]]:
    """Return the key of an override and its values; a list in brackets is one value."""
    key, _, value = text.partition("=")
    return key, [value] if value.startswith("[") else value.split(",")


def places(report: Report, sweep: Sweep) -> list[str]:
    """Return the tables and figures of a report that a sweep repeats, or its other purpose."""
    tables = [table.name for table in report.tables.values() if sweep.name in table.sweeps]
    pictures = [picture.name for picture in report.pictures.values() if picture.sweep == sweep.name]
    starts = [f"start of {other.name}" for other in report.sweeps.values() if other.start_from == sweep.name]
    return list(dict.fromkeys([*tables, *pictures, *starts])) or ["a question"]
