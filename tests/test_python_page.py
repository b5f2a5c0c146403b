"""The examples of docs/python.md and docs/structured.md run as they stand there; tables name every option."""

from __future__ import annotations

import re
import sys
from ast import literal_eval
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch

from prunelit import save
from prunelit.pruning import criteria
from prunelit.training.fit.options import KINDS
from prunelit.training.models import FC

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


def programs_about_units() -> list[tuple[str, str, str]]:
    """The programs of docs/structured.md, each with the text behind it."""
    return [block.partition("```") for block in (DOCS / "structured.md").read_text().split("```python\n")[1:]]


def test_units_are_explained_and_cut_as_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    explains, cuts, _ = programs_about_units()
    names: dict[str, Any] = {"__name__": "example"}
    exec(compile(explains[0], "docs/structured.md", "exec"), names)
    assert f"```\n{capsys.readouterr().out}```" in explains[2]
    exec(compile(cuts[0], "docs/structured.md", "exec"), names)
    assert f"This prints `{capsys.readouterr().out.strip()}`" in cuts[2]


def test_saved_networks_are_timed_side_by_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes: dict[str, Any] = {"num_classes": 10, "input_shape": (3, 32, 32)}
    build = {"_target_": "prunelit.training.models.FC", **sizes}
    folders = [str(save(FC(**sizes), tmp_path / name, build)) for name in ("one", "two")]
    monkeypatch.setattr(sys, "argv", ["times.py", *folders])
    monkeypatch.setattr(torch, "set_num_threads", lambda threads: None)  # this process keeps its own
    exec(compile(programs_about_units()[2][0], "docs/structured.md", "exec"), {"__name__": "times"})
    printed = [line.partition(" ") for line in capsys.readouterr().out.splitlines()]
    assert [size for size, _, _ in printed] == ["1", "64"]
    assert all(list(literal_eval(times)) == folders for _, _, times in printed)
