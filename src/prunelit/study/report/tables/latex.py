r"""Tables in LaTeX that fit the class ``article``.

A table that is wider than the text is split into several, each with the columns of words and as many of the
others as fit; one that is longer than a page, into several with the same header. Long words may break.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from prunelit.study.report.plain_text import plain
from prunelit.study.report.tables.grid import Grid
from prunelit.study.report.tables.latex_layout import Layout

PREAMBLE = "% \\usepackage{booktabs,array} in the preamble; written for the text width of the class article\n"
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
    layout = Layout(grid, r"\small", 1.0, 7.0)
    narrow = Layout(grid, r"\footnotesize", 0.9, 5.0)
    if len(narrow.columns()) < len(layout.columns()):
        layout = narrow
    parts = [(columns, rows) for columns in layout.columns() for rows in layout.split_rows(columns)]
    tables = []
    for number, (columns, rows) in enumerate(parts):
        title = plain(grid.title)
        if len(parts) > 1:
            title = f"{title} ({number + 1} of {len(parts)})".strip()
        last = number == len(parts) - 1
        tables.append(_table(layout, title, columns, rows, grid.notes if last else ()))
    return "".join(tables)


def _table(layout: Layout, title: str, columns: Sequence[int], rows: range, notes: Sequence[str]) -> str:
    grid, spec = layout.grid, "".join(layout.column_type(column) for column in columns)
    lines = [r"\begin{table}[htbp]", rf"\centering{layout.command}", rf"\caption{{{tex(title)}}}"]
    lines += [rf"\setlength{{\tabcolsep}}{{{layout.gap / 2:g}pt}}", rf"\begin{{tabular}}{{@{{}}{spec}@{{}}}}"]
    lines.append(r"\toprule")
    for line in layout.header(columns):
        lines.append(" & ".join(map(tex, line)) + r" \\")
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
