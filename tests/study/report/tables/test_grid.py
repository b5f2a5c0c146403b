"""Nothing in a table can break the table, the page or the terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from prunelit.study.report.plain_text import plain
from prunelit.study.report.tables.grid import Cell, Grid, for_terminal, markdown
from prunelit.study.report.tables.latex import latex

NASTY = "a|b<script>&`_*x*_[l](u) $5 50% #1 {z} ~ ^ \\cmd \x1b[2J\u202e\nnext"


def grid(text: str) -> Grid:
    return Grid(f"title {text}", [f"head {text}", "n"], [[Cell(text), Cell("1 ± 2", bold=True)]], [text])


def test_plain_text_is_one_line_without_controls() -> None:
    assert plain("a\x1b[31m\tb\nc\u202e\x9b\x07\ud800") == "a\ufffd[31m b c" + 4 * "\ufffd"
    assert plain("98.1 ± 0.2 – Płaszczyk 模型") == "98.1 ± 0.2 – Płaszczyk 模型"


def test_markdown_escapes() -> None:
    text = markdown(grid(NASTY))
    assert "<script>" not in text
    assert "\x1b" not in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 3
    # Bars that part cells are those that no backslash precedes.
    assert {row.count("|") - row.count("\\|") for row in rows} == {3}
    assert rows[2].endswith("| **1 ± 2** |")


def test_latex_escapes() -> None:
    text = latex(grid(NASTY))
    assert r"\textbackslash{}cmd" in text
    assert r"\$5 50\% \#1 \{z\} \textasciitilde{} \textasciicircum{}" in text
    assert r"a\textbar{}b\textless{}script\textgreater{}\&`\_*x*\_{[}l{]}(u)" in text.replace(
        r"\allowbreak{}", ""
    )
    assert r"\textbf{1 $\pm$ 2} \\" in text
    for part in (r"\toprule", r"\midrule", r"\bottomrule", r"\begin{tabular}"):
        assert text.count(part) == 1
    assert not {"\x1b", "\u202e"} & set(text)


@pytest.mark.parametrize("styled", [True, False])
def test_a_terminal_shows_text_as_text(styled: bool) -> None:
    screen = Console(file=io.StringIO(), width=200)
    screen.print(for_terminal(grid("[red]x[/red]\x1b[2J"), styled))
    text = str(screen.file.getvalue())  # type: ignore[attr-defined]
    assert "[red]x[/red]" in text
    assert "\x1b" not in text
    assert ("**1 ± 2**" in text) == (not styled)


def test_latex_quotes_in_every_font_encoding() -> None:
    assert "5'' disk" in latex(Grid('5" disk', ["a"], []))


def test_a_header_of_two_lines_stays_so() -> None:
    two = Grid("t", ["method", "compression 0.5\n31.62 % kept"], [[Cell("a"), Cell("97.12 ± 0.15 (n = 2)")]])
    assert "compression 0.5<br>31.62 % kept" in markdown(two)
    assert "method & compression 0.5 \\\\\n & 31.62 \\% kept \\\\" in latex(two)
