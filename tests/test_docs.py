"""The configuration reference is complete, and the examples of the README hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from prunelit.reference import rewritten, tables
from prunelit.study.configs import CONFIGS
from prunelit.study.record import RESULT_FIELDS

README = Path(__file__).parents[1] / "README.md"
REFERENCE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
WORDS = set(re.findall(r"[A-Za-z_]\w*", " ".join(re.findall(r"`([^`\n]+)`", REFERENCE))))
FILES = sorted(
    path
    for path in CONFIGS.rglob("*.yaml")
    if path.relative_to(CONFIGS).parts[0] not in ("hydra", "experiment", "reproduce")
)


def keys(node: DictConfig) -> set[str]:
    """All keys of a yaml file but Hydra's own."""
    found = set()
    for key in map(str, node):
        if key in ("hydra", "defaults") or key.startswith("_"):
            continue
        found.add(key)
        value = node._get_node(key)
        if isinstance(value, DictConfig):
            found |= keys(value)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_key_and_choice_is_in_the_reference(path: Path) -> None:
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    assert keys(config) - WORDS == set()


def test_the_tables_of_keys_are_those_of_the_declarations() -> None:
    """``python -m prunelit.reference docs/configuration.md`` writes them."""
    found = tables()
    assert all(f"<!-- keys: {name} -->" in REFERENCE for name in found)
    assert rewritten(REFERENCE, found) == REFERENCE


def test_every_key_of_a_result_is_in_the_reference() -> None:
    assert set(RESULT_FIELDS) - WORDS == set()


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
