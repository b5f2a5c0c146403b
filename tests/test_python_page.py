"""The examples of docs/python.md and docs/structured.md run as they stand there; tables name every option."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from prunelit.pruning import criteria
from prunelit.training.fit.options import KINDS

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "python.md").read_text()


def test_the_examples_print_what_the_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "example"}
    checked = 0
    for block in PAGE.split("```python\n")[1:]:
        code, _, after = block.partition("```")
        exec(compile(code, "docs/python.md", "exec"), names)
        printed = capsys.readouterr().out
        if said := re.match(r"\s*This prints `(.*?)`", after):
            assert printed.splitlines()[-1] == said[1]
            checked += 1
        else:
            assert "print(" not in code
    assert checked >= 8


@pytest.mark.parametrize("options", KINDS)
def test_every_option_is_in_a_table(options: type) -> None:
    table = PAGE.partition(f"### {options.__name__}")[2].partition("###")[0]
    known = [field.name for field in fields(options) if field.name != "rewound_to"]  # follows from rewind
    assert re.findall(r"^\| `(\w+)`", table, re.MULTILINE) == known


def test_every_criterion_is_in_the_row_of_what_it_needs() -> None:
    table = PAGE.partition("### The loss and the inputs")[2].partition("###")[0]
    rows = {
        frozenset(re.findall(r"`([A-Z]\w+)`", row.split("|")[1]))
        for row in table.splitlines()
        if row[:3] == "| `"
    }
    by_need: dict[str, set[str]] = {}
    for name in set(criteria.__all__) - {"Criterion"}:
        by_need.setdefault(getattr(criteria, name).needs, set()).add(name)
    assert rows == set(map(frozenset, by_need.values()))


def test_units_are_explained_and_cut_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / "structured.md").read_text()
    explains, cuts = (block.partition("```") for block in text.split("```python\n")[1:])
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(explains[0], "docs/structured.md", "exec"), names)
    assert f"```\n{capsys.readouterr().out}```" in explains[2]
    exec(compile(cuts[0], "docs/structured.md", "exec"), names)
    assert f"This prints `{capsys.readouterr().out.strip()}`" in cuts[2]
