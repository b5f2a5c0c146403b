"""The examples of the README print what it says, and the links of the documentation lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]


def examples() -> list[tuple[str, str]]:
    """Python of the README, and the last line that it is said to print."""
    blocks = [block.partition("```")[::2] for block in README.read_text().split("```python\n")[1:]]
    said = [(code, re.match(r"\s*(?:Its last line is|This prints) `(.*?)`", after)) for code, after in blocks]
    return [(code, found[1]) for code, found in said if found]


@pytest.mark.parametrize(("code", "last"), examples(), ids=["Lightning", "plain"])
def test_an_example_of_the_readme_prints_what_it_says(
    code: str, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(code, {"__name__": "example"})
    assert capsys.readouterr().out.splitlines()[-1] == last


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)\s]+)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_overview_names_every_page() -> None:
    overview = (ROOT / "docs" / "index.md").read_text()
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "index.md" or f"({page.name}" in overview, page.name


def test_the_readme_lists_every_pruner_and_counts_them() -> None:
    """The table of groups names some choices of ``pruner``, that of methods all, and both counts fit."""
    text = README.read_text()
    choices = {path.stem for path in (ROOT / "conf" / "pruner").glob("*.yaml")}
    listed = next(line for line in text.splitlines() if line.startswith("| `pruner` |"))
    named = set(re.findall(r"`(\w+)`", listed)) - {"pruner"}
    methods = text.partition("## Methods")[2].partition("\n## ")[0]
    assert named <= choices
    assert set(re.findall(r"`(\w+)`", methods)) >= choices - {"none"}
    counts = re.findall(r"\[(\d+) more\]", listed) + re.findall(r"There are (\d+) more", methods)
    assert counts == [str(len(choices - named))] * 2
