r"""Tables in LaTeX that fit the class ``article``.

A table that is wider than the text is split into several, each with the columns of words and as many of the
others as fit; one that is longer than a page, into several with the same header. Long words may break.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence

from prunelit.study.report.grid import Grid, plain

PREAMBLE = "% \\usepackage{booktabs,array} in the preamble; written for the text width of the class article\n"
TEXT_WIDTH = 345.0
"""Points between the margins of ``article`` at 10 pt, its narrowest."""
GAP = 8.0
"""Points between two columns: twice ``\\tabcolsep`` as set below."""
MOST_LINES = 38
"""Lines of a table's body that fit on a page with its caption and notes."""
WIDEST_WORDS = 150.0
"""Points up to which a column of words is as wide as its longest cell; beyond, its cells are paragraphs."""
UNBROKEN = 16
"""Characters after which a word that is no plain word may break where it has no other place to."""
MOST_FLOATS = 12
"""Tables after which a page is ended: LaTeX holds 52 that found no place yet."""

SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",  # the other command for it needs the T1 encoding
    "±": r"$\pm$",
    "−": "$-$",
    "×": r"$\times$",
    "†": r"$\dagger$",
    "–": "--",
    "—": "---",
    "…": r"\dots{}",
    "[": "{[}",
    "]": "{]}",
    "ß": r"\ss{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "µ": r"$\mu$",
    "μ": r"$\mu$",
}
ACCENTS = {
    chr(number): command
    for number, command in zip(
        (0x300, 0x301, 0x302, 0x303, 0x304, 0x306, 0x307, 0x308, 0x30A, 0x30B, 0x30C, 0x327),
        "`'^~=u.\"rHvc",
        strict=True,
    )
}
"""The commands of combining accents that every encoding of LaTeX has."""


def document(sections: Mapping[str, Sequence[Grid]]) -> str:
    """Return all tables, for ``\\input`` in a document."""
    parts, floats = [PREAMBLE], 0
    for title, grids in sections.items():
        parts += [f"% {plain(title)}\n"] if grids else []
        for grid in grids:
            parts.append(latex(grid))
            floats += parts[-1].count(r"\begin{table}")
            if floats >= MOST_FLOATS:
                parts.append("\\clearpage\n")
                floats = 0
    return "\n".join(parts)


def latex(grid: Grid) -> str:
    """Return the table as one or more LaTeX ``table`` environments, everything in it escaped.

    Characters that plain LaTeX cannot print become question marks.
    """
    parts = [(columns, rows) for columns in _parted_columns(grid) for rows in _parted_rows(grid, columns)]
    tables = []
    for number, (columns, rows) in enumerate(parts):
        title = plain(grid.title)
        if len(parts) > 1:
            title = f"{title} ({number + 1} of {len(parts)})".strip()
        last = number == len(parts) - 1
        tables.append(_table(grid, title, columns, rows, grid.notes if last else ()))
    return "".join(tables)


def _table(grid: Grid, title: str, columns: Sequence[int], rows: range, notes: Sequence[str]) -> str:
    spec = [_column_type(grid, column) for column in columns]
    lines = [r"\begin{table}[htbp]", r"\centering\small", rf"\caption{{{tex(title)}}}"]
    lines += [
        rf"\setlength{{\tabcolsep}}{{{GAP / 2:g}pt}}",
        rf"\begin{{tabular}}{{@{{}}{''.join(spec)}@{{}}}}",
    ]
    lines.append(r"\toprule")
    heads = [[*grid.header[column].split("\n"), ""] for column in columns]
    for part in range(2 if any(head[1] for head in heads) else 1):
        lines.append(" & ".join(tex(head[part]) for head in heads) + r" \\")
    lines.append(r"\midrule")
    for row in rows:
        cells = [grid.rows[row][column] for column in columns]
        texts = (rf"\textbf{{{tex(cell.text)}}}" if cell.bold else tex(cell.text) for cell in cells)
        lines.append(" & ".join(texts) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    for number, note in enumerate(notes):
        above = r"\par\medskip" if number == 0 else r"\par\smallskip"
        lines.append(rf"{above}\parbox{{\linewidth}}{{\footnotesize\raggedright {tex(note)}}}")
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def _column_type(grid: Grid, column: int) -> str:
    if column >= grid.left:
        return "r"
    width = _word_widths(grid)[column]
    if _width_of(grid, column) <= width:
        return "l"
    return rf">{{\raggedright\arraybackslash}}p{{{width:.0f}pt}}"


def _parted_columns(grid: Grid) -> list[list[int]]:
    """Return the columns of each part: those of words in all, of the others as many as fit."""
    words = list(range(grid.left))
    room = TEXT_WIDTH - sum(_word_widths(grid)) - GAP * grid.left
    parts: list[list[int]] = []
    left = 0.0
    for column in range(grid.left, len(grid.header)):
        width = _width_of(grid, column) + GAP
        if not parts or width > left:
            parts.append([*words])
            left = room
        parts[-1].append(column)
        left -= width
    return parts or [words]


def _word_widths(grid: Grid) -> list[float]:
    """Return the points that each column of words gets; long ones share what the others leave."""
    widths = [_width_of(grid, column) for column in range(grid.left)]
    widest = max((_width_of(grid, column) for column in range(grid.left, len(grid.header))), default=0.0)
    alone = grid.left == len(grid.header)
    room = TEXT_WIDTH - GAP * (grid.left - 1 if alone else grid.left) - widest
    if sum(widths) <= room and (alone or max(widths, default=0.0) <= WIDEST_WORDS):
        return widths
    fair = room / max(1, grid.left)
    if not alone:
        fair = min(fair, WIDEST_WORDS)
    spare = sum(max(0.0, fair - width) for width in widths) if alone else 0.0
    long = sum(width > fair for width in widths)
    return [width if width <= fair else fair + spare / long for width in widths]


def _parted_rows(grid: Grid, columns: Sequence[int]) -> Iterator[range]:
    """Yield the rows of each part, by the lines that their longest cells need."""
    widths = _word_widths(grid)
    start, lines = 0, 0
    for number, row in enumerate(grid.rows):
        # A paragraph that breaks at words fills about three quarters of its lines.
        needed = max(
            (
                1 + int(text_width(row[column].text) / (0.75 * widths[column]))
                for column in columns
                if column < grid.left and text_width(row[column].text) > widths[column] + 1
            ),
            default=1,
        )
        if lines and lines + needed > MOST_LINES:
            yield range(start, number)
            start, lines = number, 0
        lines += needed
    yield range(start, len(grid.rows))


def _width_of(grid: Grid, column: int) -> float:
    """Return the points of the widest cell or header line of a column."""
    heads = grid.header[column].split("\n")
    cells = [text_width(row[column].text, row[column].bold) for row in grid.rows]
    return max([*map(text_width, heads), *cells])


NARROW, WIDE = set("iljtfrI.,:;'!|()[]-/ "), set("mwMWABCDEFGHKNOPQRUVXYZ%&@<>=+×–")


def text_width(text: str, bold: bool = False) -> float:
    """Return the points of a text in Computer Modern at 9 pt, a little too many rather than too few."""
    points = 0.0
    for character in plain(text):
        points += (
            3.7 if character in NARROW else 7.6 if character in WIDE else 13.0 if character == "±" else 4.95
        )
    return points * (1.16 if bold else 1.0)


def tex(text: str) -> str:
    """Return a text in one line, escaped, with places where long words may break."""
    return " ".join(_broken(word) for word in plain(text).split(" "))


def _broken(word: str) -> str:
    """Return a word, escaped, with a place to break after each mark inside it and in long runs of letters."""
    if len(word) <= 10 or (word.isalpha() and len(word) <= 1.5 * UNBROKEN):  # LaTeX hyphenates words itself
        return "".join(map(_escaped, word))
    pieces = re.findall(rf"[^-_./:;=,]{{1,{UNBROKEN}}}[-_./:;=,]*|[-_./:;=,]+", word)
    return r"\allowbreak{}".join("".join(map(_escaped, piece)) for piece in pieces)


def _escaped(character: str) -> str:
    if character in SPECIAL:
        return SPECIAL[character]
    if character.isascii():
        return character
    base, *accents = list(unicodedata.normalize("NFD", character))
    if len(accents) == 1 and accents[0] in ACCENTS and base.isascii():
        letter = {"i": r"\i", "j": r"\j"}.get(base, base)
        return rf"\{ACCENTS[accents[0]]}{{{letter}}}"
    return "?"
