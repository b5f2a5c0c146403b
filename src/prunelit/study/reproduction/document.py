"""Write docs/reproduction.md from descriptions and records; another run only changes its numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from prunelit.durable import write_atomically
from prunelit.study.report.tables.grid import markdown
from prunelit.study.reproduction import answers as of_questions
from prunelit.study.reproduction import cells as of_cells
from prunelit.study.reproduction.answers import answer_grid
from prunelit.study.reproduction.description import Report, read_report, report_names
from prunelit.study.reproduction.figures import MAKERS
from prunelit.study.reproduction.requests import Request
from prunelit.study.reproduction.tables import counts, grids, place_name
from prunelit.study.reproduction.verdict import VERDICTS

TEMPLATES = Path(__file__).parent / "templates"
CELL = of_cells.FACT
"""What names a published number in docs/reproduction/NAME.csv."""
ANSWER = ("question", "method", "asked", "metric")
"""What names a number in docs/reproduction/NAME.answers.csv."""


@dataclass(frozen=True)
class Outcome:
    """The results of a report: one row per published number, and one per number that answers a question."""

    cells: pd.DataFrame
    answers: pd.DataFrame

    @classmethod
    def read(cls, report: Report, folder: Path) -> Outcome:
        """Return the results that a folder has of a report; they are empty if it has none."""
        found = {}
        for name, columns in (("", of_cells.COLUMNS), (".answers", of_questions.COLUMNS)):
            path = folder / f"{report.name}{name}.csv"
            if path.is_file():
                found[name] = _typed(pd.read_csv(path, dtype=str, keep_default_na=False), columns)
        nothing = of_cells.compare(report, {})
        cells = _best(nothing, found[""], CELL) if "" in found else nothing
        return cls(
            of_cells.judged_again(report, cells),
            found.get(".answers", pd.DataFrame(columns=list(of_questions.COLUMNS))),
        )

    def write(self, report: Report, folder: Path) -> list[Path]:
        """Save the rows to a folder as two files; return their paths."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{report.name}.csv", folder / f"{report.name}.answers.csv"]
        for path, table in zip(paths, (self.cells, self.answers), strict=True):
            write_atomically(path, table.to_csv(index=False, lineterminator="\n", float_format="%.10g"))
        return paths

    def joined(self, report: Report, newer: Outcome) -> Outcome:
        """Return these rows, replaced by rows of ``newer`` unless those have a smaller scale or fewer seeds.

        Verdicts and remarks are computed again, from the current description.
        """
        cells = _best(newer.cells, self.cells, CELL)
        again = of_cells.judged_again(report, cells)
        return Outcome(again, _best(newer.answers, self.answers, ANSWER, keep_all=True))


NUMBERS = ("n", "scale", "ours", "mean", "sd", "low", "high", "difference")


def _typed(table: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    numbers = [key for key in columns if key in NUMBERS]
    typed = table.reindex(columns=list(columns))
    return typed.assign(**{key: pd.to_numeric(typed[key], errors="coerce") for key in numbers})


def _best(
    newer: pd.DataFrame, older: pd.DataFrame, key: Sequence[str], keep_all: bool = False
) -> pd.DataFrame:
    """Return the rows of ``newer``, or of ``older`` where its scale, or at one scale its seeds, are more."""
    kept = {tuple(row[name] for name in key): row for row in older.to_dict("records")}
    rows = []
    for row in newer.to_dict("records"):
        other = kept.pop(tuple(row[name] for name in key), None)
        rows.append(row if other is None or _fullness(row) >= _fullness(other) else other)
    return pd.DataFrame([*rows, *(kept.values() if keep_all else ())], columns=list(newer.columns))


def _fullness(row: Mapping[Any, Any]) -> tuple[bool, float, float]:
    n = float(row["n"])
    run = n > 0
    return (run, float(row["scale"]) if run else 0.0, n)


def write_document(path: Path) -> None:
    """Write docs/reproduction.md from the files in docs/reproduction/."""
    reports = [read_report(name) for name in report_names()]
    found = {report.name: Outcome.read(report, path.with_suffix("")) for report in reports}
    write_atomically(path, document(reports, found))


def document(reports: Sequence[Report], found: Mapping[str, Outcome]) -> str:
    """Return the Markdown of all reports."""
    summary = [
        (report, [int((found[report.name].cells["verdict"] == word).sum()) for word in VERDICTS])
        for report in reports
    ]
    sections = [section(report, found[report.name]) for report in reports]
    text = template("document.md.jinja").render(verdicts=VERDICTS, summary=summary, sections=sections)
    return text.rstrip() + "\n"


def section(report: Report, outcome: Outcome) -> str:
    """Return the Markdown of one report."""
    found = [(question, answer_grid(question, outcome.answers)) for question in report.questions]
    questions = [(q.asks, q.text(grid is not None), markdown(grid) if grid else "") for q, grid in found]
    sweeps = [(sweep, " ".join(sweep.overrides(1.0)), _shrinking(sweep)) for sweep in report.sweeps.values()]
    repeated = [table for table in report.tables.values() if table.same_as]
    text = template("section.md.jinja").render(
        report=report,
        counts=counts(outcome.cells),
        sweeps=sweeps,
        tables=[markdown(grid) for grid in grids(report, outcome.cells)],
        same=[(place_name(table.name), place_name(table.same_as)) for table in repeated],
        pictures=[(each, where(report, each.sweep, each.picture)) for each in report.pictures.values()],
        questions=questions,
    )
    return text.strip() + "\n"


def where(report: Report, sweep: str, picture: str) -> str:
    """Return the path of our figure relative to the output folder."""
    if not picture:
        return ""
    top = Request().folder(report).relative_to("outputs")
    if picture in MAKERS:
        return f"{top}/figures/{sweep}/{picture}.png"
    return f"{top}/{sweep}/report/ ({picture})"


def _shrinking(sweep: Any) -> str:
    return ", ".join(sweep.shrinks) or "nothing"


def template(name: str) -> Any:
    """Return a template of this package; HTML templates escape their arguments."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=name.endswith(".html.jinja"),
    )
    return environment.get_template(name)
