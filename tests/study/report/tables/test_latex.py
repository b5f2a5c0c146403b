"""The tables in LaTeX, as TeX itself sets them: nothing is an error, nothing is wider than the text."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.study.report.tables.grid import Cell, Grid
from prunelit.study.report.tables.latex import document, latex

SLACK = 2.0
"""Points that a line may pass the margin by."""
NASTY = "a|b<script>&`_*x*_[l](u) $5 50% #1 {z} ~ ^ \\cmd \x1b[2J\u202e 模型 Płaszczyk é ñ"


@pytest.fixture
def typeset(tmp_path: Path) -> Callable[..., str]:
    """Return a function that sets a document of tables with pdflatex and returns its log."""
    if shutil.which("pdflatex") is None:
        pytest.skip("no pdflatex is installed")

    def run(*grids: Grid) -> str:
        body = document({"All": grids})
        text = (
            rf"\documentclass{{article}}\usepackage{{booktabs,array}}\begin{{document}}{body}\end{{document}}"
        )
        (tmp_path / "all.tex").write_text(text)
        command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert done.returncode == 0, done.stdout[-1500:]
        return (tmp_path / "all.log").read_text(errors="replace")

    return run


def results(amounts: int, methods: int, method: str = "synflow rounds=100") -> Grid:
    """Return a table as a study has it."""
    header = ["method", *(f"compression {0.25 * n:g} / sparsity 0.9\n{n}.62 % kept" for n in range(amounts))]
    rows = [
        [
            Cell(f"{method} {n}"),
            *(Cell("97.12 ± 10.15†* (n = 2, 1 failed)", bold=n == 1) for _ in range(amounts)),
        ]
        for n in range(methods)
    ]
    return Grid("mnist, fc: test accuracy, top 1, % (mean ± sd)", header, rows, ["– no run.", "note " * 60])


def test_tables_fit_the_text_of_an_article(typeset: Callable[..., str]) -> None:
    path = "configurations/of_people/mnist-fc-rand-c3-seed1-4289bed898" + "x" * 60
    why = "nothing is kept in " + ", ".join(f"features.{n}.convolution.weight" for n in range(12))
    problems = [[Cell("failed"), Cell(path), Cell(why)]] * 3
    pairs = [[Cell("compression 0.5"), Cell("synflow rounds=100 lr=0.001"), Cell("iterative lr=1e-05")]]
    header = ["asked", "best", "other", "seeds", "difference", "95 % interval", "p", "p, Holm"]
    numbers = [Cell("3"), Cell("-12.34"), Cell("-12.34 to 12.34"), Cell("< 0.001"), Cell("0.012", bold=True)]
    log = typeset(
        results(amounts=11, methods=6),
        results(amounts=2, methods=120),
        results(amounts=4, methods=3, method="snip criterion.temperature=200 optimizer.lr=0.001"),
        Grid("What went wrong", ["what", "where", "why"], problems, left=3),
        Grid("the best against the others", header, [[*row, *numbers] for row in pairs], left=3),
        Grid(NASTY, [NASTY, "n"], [[Cell(NASTY), Cell("1 ± 2", bold=True)]], [NASTY]),
    )
    over = [float(points) for points in re.findall(r"Overfull \\hbox \((\d+\.\d+)pt too wide", log)]
    assert max(over, default=0.0) <= SLACK
    assert "Float too large" not in log
    assert "Overfull \\vbox" not in log


def test_many_tables_are_no_more_than_latex_can_hold(typeset: Callable[..., str]) -> None:
    log = typeset(*[results(amounts=2, methods=3)] * 60)
    assert "Too many unprocessed floats" not in log


def test_a_wide_table_is_split_and_each_part_names_its_rows() -> None:
    text = latex(results(amounts=8, methods=2))
    tables = text.split(r"\begin{table}")[1:]
    assert len(tables) > 1
    for table in tables:
        assert table.count("synflow rounds=") == 2 or table.count(r"synflow rounds=\allowbreak") == 2
    shown = re.findall(r"compression ([\d.]+)", text)
    assert shown == [f"{0.25 * n:g}" for n in range(8)]


def test_notes_stand_in_a_box_of_their_own_below_the_rule() -> None:
    text = latex(Grid("t", ["a"], [[Cell("1")]], ["first", "second"]))
    below = text.split(r"\end{tabular}")[1]
    assert r"\par\medskip\parbox{\linewidth}{\footnotesize\raggedright first}" in below
    assert "second" in below


def test_letters_that_latex_lacks_are_question_marks_and_others_are_not() -> None:
    text = latex(Grid("Płaszczyk, Café, 模型", ["a"], []))
    assert r"P\l{}aszczyk, Caf\'{e}, ??" in text
