"""A table of texts, and its form in Markdown and in a terminal."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prunelit.study.report.plain_text import plain

if TYPE_CHECKING:
    from rich.console import Group


@dataclass(frozen=True)
class Cell:
    """A text; ``tone`` is ``bad`` for failures and ``dim`` for missing values."""

    text: str
    bold: bool = False
    tone: str = ""


@dataclass(frozen=True)
class Grid:
    """A table as a person reads it.

    Attributes:
        title: one line above it.
        header: one text per column; a newline separates two lines.
        rows: one cell per column.
        notes: lines below it.
        left: the number of leading columns with words; the others are numbers.
        data, model: what the table is about, empty if several.
        methods: for each row the methods it is about, by which the page can leave it out; empty: all.
    """

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str] = field(default_factory=tuple)
    left: int = 1
    data: str = ""
    model: str = ""
    methods: Sequence[Sequence[str]] = ()


def markdown(grid: Grid) -> str:
    """Return the table in GitHub's Markdown, everything in it escaped."""
    ends = ["---"] * grid.left + ["---:"] * (len(grid.header) - grid.left)
    lines = [f"**{_md(grid.title)}**", ""] if grid.title else []
    lines += [_md_row(map(_md_head, grid.header)), _md_row(ends)]
    for row in grid.rows:
        lines.append(_md_row(f"**{_md(cell.text)}**" if cell.bold else _md(cell.text) for cell in row))
    lines += [line for note in grid.notes for line in ("", _md(note))]
    return "\n".join(lines) + "\n"


def _md_row(cells: object) -> str:
    return f"| {' | '.join(cells)} |"  # type: ignore[arg-type]


def _md_head(text: str) -> str:
    return "<br>".join(map(_md, text.split("\n")))


def _md(text: str) -> str:
    safe = plain(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\`*_{}\[\]#|~$!])", r"\\\1", safe)


TONES = {"": "", "bad": "red", "dim": "dim"}


def for_terminal(grid: Grid, styled: bool = True) -> Group:
    """Return the table for a terminal; bold is ``**so**`` where nothing is styled."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table()
    for number, head in enumerate(grid.header):
        text = Text("\n".join(map(plain, head.split("\n"))))
        table.add_column(text, justify="left" if number < grid.left else "right")
    for row in grid.rows:
        style = ["bold green" if cell.bold else TONES[cell.tone] for cell in row]
        texts = [f"**{cell.text}**" if cell.bold and not styled else cell.text for cell in row]
        table.add_row(*(Text(plain(text), style=s) for text, s in zip(texts, style, strict=True)))
    notes = (Text(plain(note), style="dim") for note in grid.notes)
    return Group(Text(plain(grid.title), style="bold"), table, *notes, Text())
