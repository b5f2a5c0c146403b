"""The content of a published report and the sweeps that repeat it, read from ``conf/reproduce/NAME.yaml``.

A file names the sweeps, and for each table and figure of the report the sweeps that give it. It also holds
the texts of docs/reproduction.md: what is known of the report, which published numbers are doubtful and why,
and what explains a difference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from prunelit.request import BadRequest, nearest
from prunelit.study.configs import CONFIGS

FOLDER = CONFIGS / "reproduce"
PARTS = ("epochs", "seeds", "images", "batches")
"""What ``--scale`` can make smaller: epochs of training, the number of seeds, training images of an epoch,
and batches from which scores are computed."""
T = TypeVar("T")


@dataclass(frozen=True)
class Sweep:
    """One command of the training program.

    Attributes:
        name: the name of its folder of runs.
        what: its purpose, in a sentence.
        run: its overrides, written as on the command line.
        seeds: the number of seeds of the full sweep, which start at 0.
        epochs: the keys that count epochs, and their values at full scale.
        batches: the keys that count batches for scores, and their values at full scale.
        shrinks: the entries of :data:`PARTS` that a scale below 1 makes smaller.
        start_from: the sweep whose run of the same seed gives the weights to start from.
        page: whether a report of its runs is written.
        mean_epochs: the mean number of epochs of a run, if it is more than the sum of ``epochs``.
    """

    name: str
    what: str
    run: str
    seeds: int = 1
    epochs: Mapping[str, int] = field(default_factory=dict)
    batches: Mapping[str, int] = field(default_factory=dict)
    shrinks: tuple[str, ...] = ()
    start_from: str = ""
    page: bool = True
    mean_epochs: int = 0

    def overrides(self, scale: float) -> list[str]:
        """Return the overrides at a scale, without seeds and names."""
        shrunk: dict[str, int] = {}
        # The experiment already has the full counts: only other counts are overridden.
        if scale < 1:
            shrunk |= self.epochs if "epochs" in self.shrinks else {}
            shrunk |= self.batches if "batches" in self.shrinks else {}
        changed = [f"{key}={max(1, round(scale * full))}" for key, full in shrunk.items()]
        given = self.run.split()
        keys = {text.partition("=")[0] for text in changed}
        images = [f"+trainer.limit_train_batches={scale:g}"] if scale < 1 and "images" in self.shrinks else []
        return [text for text in given if text.partition("=")[0] not in keys] + changed + images

    def trains_none_of(self, key: str) -> bool:
        """Whether ``key`` counts epochs and is 0 in this sweep, which is about networks without them."""
        return key.lstrip("+") in ("epochs", "pre_epochs") and f"{key.lstrip('+')}=0" in self.run.split()

    def seeds_at(self, scale: float) -> list[int]:
        """Return the seeds at a scale, at least one."""
        shrunk = scale if "seeds" in self.shrinks else 1.0
        return list(range(max(1, round(shrunk * self.seeds))))


@dataclass(frozen=True)
class Table:
    """A table of the report, or a place in its text that states numbers.

    Attributes:
        name: as in published.csv, such as ``II`` or ``figure 6``.
        title: what it is about.
        sweeps: the names of the sweeps that repeat its numbers; the sweep with the most seeds is compared.
        same_as: another table with the same numbers.
    """

    name: str
    title: str
    sweeps: tuple[str, ...] = ()
    same_as: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Attributes:
        name: as in the report, such as ``figure 9``.
        title: what it shows.
        sweep: the sweep whose runs our figure shows.
        picture: the name of our figure of these runs.
        says: the conclusion that the report draws from it.
    """

    name: str
    title: str
    sweep: str = ""
    picture: str = ""
    says: str = ""


@dataclass(frozen=True)
class Remark:
    """A reason that holds for the published numbers that have all of the given values.

    Without ``why`` it is what published.csv says against the number.
    """

    why: str
    where: Mapping[str, str]

    def fits(self, fact: Mapping[str, Any]) -> bool:
        """Whether the remark is about a row of published.csv."""
        return all(str(fact[key]) == str(value) for key, value in self.where.items())


@dataclass(frozen=True)
class Question:
    """A question that the comparison raises, the sweep that investigates it, and the answer."""

    asks: str
    answer: str
    sweep: str = ""
    shows: tuple[str, ...] = ("top1",)

    def text(self, run: bool) -> str:
        """Return the answer, or a note that there is none yet if its sweep was not run."""
        if run or not self.sweep:
            return self.answer.strip()
        return f"Not explained: the sweep {self.sweep} has not been run."


@dataclass(frozen=True)
class Report:
    """A published report.

    Attributes:
        name: of the command, such as ``butler2022``.
        key: the report's name in published.csv.
        title: author and title.
        about: what is known of the experiments, in Markdown.
        sweeps, tables, pictures: by name, in order.
        doubtful: published numbers that cannot be right as they stand.
        reasons: why numbers of ours differ.
        questions: what was looked into beyond the tables.
        names: what published.csv calls data sets and networks otherwise than our runs.
        more: what was measured in addition to the sweeps, in Markdown.
        by_method: whether runs are compared by method alone, because the report states no amount.
    """

    name: str
    key: str
    title: str
    about: str
    sweeps: Mapping[str, Sweep]
    tables: Mapping[str, Table]
    pictures: Mapping[str, Picture]
    doubtful: tuple[Remark, ...] = ()
    reasons: tuple[Remark, ...] = ()
    questions: tuple[Question, ...] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    more: str = ""
    by_method: bool = False

    def doubt(self, fact: Mapping[str, Any]) -> str:
        """Return why a published number cannot be right as it stands; empty if nothing speaks against it."""
        fitting = (remark for remark in self.doubtful if remark.fits(fact))
        return next((remark.why or fact["doubt"] or fact["note"] for remark in fitting), "")

    def reason(self, fact: Mapping[str, Any]) -> str:
        """Return what explains a difference from a published number; empty if that is not known."""
        return next((remark.why for remark in self.reasons if remark.fits(fact)), "")

    def serving(self, table: str | None) -> list[Sweep]:
        """Return the sweeps that give a table or figure, or one by name, and those that they start from.

        Raises:
            BadRequest: the report has no such table or figure.
        """
        if table is None:
            return list(self.sweeps.values())
        places = {**self.tables, **self.pictures, **self.sweeps}
        alike = {_simplified(place): place for place in places}
        table = table if table in places else alike.get(_simplified(table), table)
        if table not in places:
            raise BadRequest("--only", table, nearest(table, places), f"{self.name} has no such table")
        names = [table] if table in self.sweeps else []
        for places_of in (self.tables, self.pictures):
            place = places_of.get(table)
            if isinstance(place, Table):
                names += self.tables[place.same_as].sweeps if place.same_as else place.sweeps
            elif place is not None and place.sweep:
                names.append(place.sweep)
        sources = [self.sweeps[name].start_from for name in names if self.sweeps[name].start_from]
        wanted = {*names, *sources}
        return [sweep for name, sweep in self.sweeps.items() if name in wanted]


def _simplified(place: str) -> str:
    """Return the name of a place without "table", spaces and capitals."""
    return "".join(place.casefold().removeprefix("table").split())


def report_names() -> list[str]:
    """Return the names of all reports."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read_report(name: str) -> Report:
    """Return the description of a report.

    Raises:
        BadRequest: there is none of that name.
    """
    path = FOLDER / f"{name}.yaml"
    if name not in report_names():
        raise BadRequest("NAME", name, nearest(name, report_names()), "there is no such report")
    return describe(name, path)


def describe(name: str, path: Path) -> Report:
    """Return the description that a file holds.

    Raises:
        ValueError: it has a key that is not known here, or names a sweep that it does not describe.
    """
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    content["sweeps"] = _by_name(Sweep, content["sweeps"])
    content["tables"] = _by_name(Table, content["tables"])
    content["pictures"] = _by_name(Picture, content.pop("figures", {}))
    for key in ("doubtful", "reasons"):
        content[key] = tuple(_remark(entry) for entry in content.get(key, ()))
    content["questions"] = tuple(_made(Question, entry) for entry in content.get("questions", ()))
    report = _made(Report, {"name": name, **content})
    _check(report)
    return report


def _by_name(kind: type[T], entries: Mapping[str, Any]) -> dict[str, T]:
    return {str(name): _made(kind, {"name": str(name), **entry}) for name, entry in entries.items()}


def _made(kind: type[T], values: Mapping[str, Any]) -> T:
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    unknown = set(values) - known
    if unknown:
        raise ValueError(f"{kind.__name__} has no {', '.join(sorted(unknown))}")
    return kind(**{key: tuple(v) if isinstance(v, list) else v for key, v in values.items()})


def _remark(entry: Mapping[str, Any]) -> Remark:
    return Remark(str(entry.get("why", "")), {key: str(v) for key, v in entry.items() if key != "why"})


def _check(report: Report) -> None:
    """Raise ValueError unless all names of sweeps and tables are described."""
    named = [name for table in report.tables.values() for name in table.sweeps]
    named += [picture.sweep for picture in report.pictures.values() if picture.sweep]
    named += [question.sweep for question in report.questions if question.sweep]
    named += [sweep.start_from for sweep in report.sweeps.values() if sweep.start_from]
    missing = sorted(set(named) - set(report.sweeps))
    missing += [t.same_as for t in report.tables.values() if t.same_as and t.same_as not in report.tables]
    missing += [part for s in report.sweeps.values() for part in s.shrinks if part not in PARTS]
    if missing:
        raise ValueError(f"{report.name}: not described: {', '.join(missing)}")
