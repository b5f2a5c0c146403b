"""What of a table fits into the width and height of a page in LaTeX."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from prunelit.study.report.tables.computer_modern import text_width
from prunelit.study.report.tables.grid import Grid

TEXT_WIDTH = 345.0
"""Points between the margins of ``article`` at 10 pt, its narrowest."""
MOST_LINES = 38
"""Lines of a table's body that fit on a page with its caption and notes."""
NARROWEST = 45.0
"""Points that a line of a header may take regardless of its cells."""
WIDEST_WORDS = 150.0
"""Points up to which a column of words is as wide as its longest cell; beyond, its cells are paragraphs."""


@dataclass(frozen=True)
class Layout:
    """A table in a size of type.

    Attributes:
        grid: the table.
        command: of the size in LaTeX.
        scale: width of the type, relative to 9 pt.
        gap: points between two columns.
    """

    grid: Grid
    command: str
    scale: float
    gap: float

    def columns(self) -> list[list[int]]:
        """Return the columns of each part: all parts have the columns of words, and as many others as fit."""
        grid, words = self.grid, list(range(self.grid.left))
        room = TEXT_WIDTH - sum(self.word_widths) - self.gap * max(0, grid.left - 1)
        parts: list[list[int]] = []
        free = 0.0
        for column in range(grid.left, len(grid.header)):
            width = self._width(column) + self.gap
            if not parts or width > free:
                parts.append([*words])
                free = room
            parts[-1].append(column)
            free -= width
        return _even(parts, grid.left) or [words]

    def split_rows(self, columns: Sequence[int]) -> Iterator[range]:
        """Yield the rows of each part, by the lines that their longest cells need."""
        start, lines = 0, 0
        for number, row in enumerate(self.grid.rows):
            needed = 1
            for column in columns:
                if column < self.grid.left:
                    width, have = self.scale * text_width(row[column].text), self.word_widths[column]
                    # A paragraph that breaks at words fills about three quarters of its lines.
                    needed = max(needed, 1 + int(width / (0.75 * have)) if width > have + 1 else 1)
            if lines and lines + needed > MOST_LINES:
                yield range(start, number)
                start, lines = number, 0
            lines += needed
        yield range(start, len(self.grid.rows))

    def column_type(self, column: int) -> str:
        """Return the letter of a column in ``tabular``, with its width where its cells are paragraphs."""
        if column >= self.grid.left:
            return "r"
        if self._width(column) <= self.word_widths[column]:
            return "l"
        return rf">{{\raggedright\arraybackslash}}p{{{self.word_widths[column]:.0f}pt}}"

    def header(self, columns: Sequence[int]) -> list[list[str]]:
        """Return the lines of the header; a title that spans two columns stays in one line."""
        lines = []
        for number in range(max(self.grid.header[column].count("\n") for column in columns) + 1):
            texts = [self._header_lines(column)[number : number + 1] for column in columns]
            lines += list(itertools.zip_longest(*(text[0] if text else [] for text in texts), fillvalue=""))
        return [list(line) for line in lines if any(line)]

    @cached_property
    def word_widths(self) -> list[float]:
        """The points that each column of words gets; long ones share what the others leave."""
        grid = self.grid
        widths = [self._width(column) for column in range(grid.left)]
        numbers = [self._width(column) + self.gap for column in range(grid.left, len(grid.header))]
        room = TEXT_WIDTH - self.gap * max(0, grid.left - 1) - max(numbers, default=0.0)
        if sum(widths) <= room and (not numbers or max(widths, default=0.0) <= WIDEST_WORDS):
            return widths
        fair = room / max(1, grid.left) if not numbers else min(room / max(1, grid.left), WIDEST_WORDS)
        spare = 0.0 if numbers else sum(max(0.0, fair - width) for width in widths)
        long = sum(width > fair for width in widths)
        return [width if width <= fair else fair + spare / long for width in widths]

    def _width(self, column: int) -> float:
        """Return the points of the widest cell or header line of a column."""
        heads = [text for lines in self._header_lines(column) for text in lines]
        return max([self._cell_width(column), *(self.scale * text_width(text) for text in heads)])

    def _cell_width(self, column: int) -> float:
        cells = (row[column] for row in self.grid.rows)
        return max((self.scale * text_width(cell.text, cell.bold) for cell in cells), default=0.0)

    def _header_lines(self, column: int) -> list[list[str]]:
        """Return, for each line of a column's header, the lines into which it breaks above narrower cells."""
        texts = self.grid.header[column].split("\n")
        room = max([NARROWEST, self._cell_width(column), *(self.scale * text_width(t) for t in texts[1:])])
        found = []
        for text in texts:
            lines = [""]
            for word in text.split(" "):
                longer = f"{lines[-1]} {word}".strip()
                if lines[-1] and self.scale * text_width(longer) > room:
                    lines.append(word)
                else:
                    lines[-1] = longer
            found.append(lines)
        return found


def _even(parts: Sequence[Sequence[int]], words: int) -> list[list[int]]:
    """Return the parts with about as many columns each: the last one is not left with a single column."""
    columns = [column for part in parts for column in part[words:]]
    size = -(-len(columns) // max(1, len(parts)))
    if len(parts) < 2 or size > min(len(part) - words for part in parts[:-1]):
        return [list(part) for part in parts]
    return [[*range(words), *columns[start : start + size]] for start in range(0, len(columns), size)]
