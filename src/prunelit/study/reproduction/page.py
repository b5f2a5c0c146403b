"""The files of a reproduction: one page, the same tables in Markdown and as CSV, and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from prunelit.durable import write_atomically
from prunelit.study.report.page.html import write_page
from prunelit.study.report.records.study import Study
from prunelit.study.report.tables.files import write_report
from prunelit.study.report.tables.metrics import METRICS
from prunelit.study.report.tables.report_tables import make_tables
from prunelit.study.reproduction.answers import answer_grid
from prunelit.study.reproduction.description import Picture, Report
from prunelit.study.reproduction.document import Outcome, section, template
from prunelit.study.reproduction.figures import MAKERS, draw
from prunelit.study.reproduction.requests import Command, Request
from prunelit.study.reproduction.tables import counts, grids


def write_outcome(
    report: Report,
    request: Request,
    commands: Sequence[Command],
    studies: Mapping[str, Study],
    outcome: Outcome,
) -> list[Path]:
    """Write the page, its tables in Markdown, the numbers as CSV and all figures; return the paths."""
    folder = request.folder(report)
    folder.mkdir(parents=True, exist_ok=True)
    drawn = _draw_all(report, studies, folder)
    html = _page(report, request, commands, outcome, drawn)
    write_atomically(folder / "reproduction.html", html)
    write_atomically(folder / "reproduction.md", section(report, outcome))
    return [folder / "reproduction.html", folder / "reproduction.md", *outcome.write(report, folder)]


def note_request(report: Report, request: Request, commands: Sequence[Command]) -> None:
    """Save the request to the folder of the runs: the scale, the overrides and the commands."""
    folder = request.folder(report)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "report": report.name,
        "scale": request.scale,
        "overrides": list(request.overrides),
        "images": {data: str(place) for data, place in request.images.items()},
        "commands": [command.text for command in commands],
    }
    write_atomically(folder / "reproduction.json", json.dumps(content, indent=1) + "\n")


def _draw_all(report: Report, studies: Mapping[str, Study], folder: Path) -> dict[str, list[Path]]:
    """Draw the figures of each sweep that was run; return the image files by figure of the report."""
    for name, study in studies.items():
        if report.sweeps[name].page and len(study.complete):
            out = folder / name / "report"
            tables = make_tables(study, METRICS["top1"])
            write_report(study, tables, out)
            write_page(study, tables, out)
    return {
        picture.name: _pictures(picture, studies[picture.sweep], folder)
        for picture in report.pictures.values()
        if picture.sweep in studies and picture.picture
    }


def _pictures(picture: Picture, study: Study, folder: Path) -> list[Path]:
    """Return the PNG files of one figure."""
    if picture.picture in MAKERS:
        found = draw(picture.picture, study, folder / "figures" / picture.sweep)
        return [path for path in found if path.suffix == ".png"]
    return sorted((folder / picture.sweep / "report" / "figures").rglob(f"{picture.picture}.png"))


def _page(
    report: Report,
    request: Request,
    commands: Sequence[Command],
    outcome: Outcome,
    drawn: Mapping[str, Sequence[Path]],
) -> str:
    folder = request.folder(report)
    pictures = []
    for picture in report.pictures.values():
        places = [path.relative_to(folder).as_posix() for path in drawn.get(picture.name, ())]
        full = folder / picture.sweep / "report" / "report.html"
        link = full.relative_to(folder).as_posix() if picture.sweep and full.is_file() else ""
        pictures.append((picture, places, link))
    page: str = template("page.html.jinja").render(
        report=report,
        counts=counts(outcome.cells),
        scale=f"{request.scale:g}",
        overrides=request.overrides,
        grids=grids(report, outcome.cells),
        pictures=pictures,
        questions=[(q, answer_grid(q, outcome.answers)) for q in report.questions],
        commands=[command.text for command in commands],
    )
    return page
