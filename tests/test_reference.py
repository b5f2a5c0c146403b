"""The tables of keys in docs/configuration.md: every key of conf/ with its default, and what it must be."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf

from prunelit.reference import compose, rewritten, tables
from prunelit.request import BadRequest
from prunelit.study.checks import check
from prunelit.study.configs import CONFIGS
from prunelit.study.record import RESULT_FIELDS
from prunelit.training.config.keys import check_config

PAGE = (Path(__file__).parents[1] / "docs" / "configuration.md").read_text()
GROUPS = ("data", "model", "optimizer", "pruner", "scheduler", "trainer")
CHOICES = sorted(
    (path.parent.name, path.stem) for group in GROUPS for path in (CONFIGS / group).glob("*.yaml")
)
CLASSES = ("pruner.criterion", "trainer.strategy")
"""Keys that name a class, whose values are checked when the class is imported."""
OWN = ("the choice's own", "the pruner's own")


@dataclass(frozen=True)
class Entry:
    """A row of a table: a key, the choices that have it (empty: all), its default and what it must be."""

    key: str
    choices: str
    default: str
    expected: str

    def default_of(self, choice: str) -> str:
        """Return the default of a choice; a cell may list several, each with its choices."""
        for value, names in re.findall(r"(?:^|, )(.+?) \((`[^)]*`)\)(?=, |$)", self.default):
            if f"`{choice}`" in names:
                return str(value).strip("`")
        return self.default.strip("`")


def entries() -> list[Entry]:
    """Parse the tables that follow a mark such as ``<!-- keys: pruner -->``."""
    row = re.compile(r"^\| `([\w.]+)`(?: \(([^)]*)\))? \| (.*?) \| (.*?) \| .+ \|$", re.MULTILINE)
    marked = [part.partition("\n\n")[2].partition("\n\n")[0] for part in PAGE.split("<!-- keys: ")[1:]]
    return [Entry(*found) for table in marked for found in row.findall(table)]


ENTRIES = entries()


def leaves(node: DictConfig, path: str) -> Iterator[tuple[str, Any]]:
    """Yield the keys of a config file with their values, without those of Hydra."""
    for key, value in node.items_ex(resolve=False):
        if key in ("defaults", "hydra") or str(key).startswith("_"):
            continue
        dotted = f"{path}.{key}" if path else str(key)
        if isinstance(value, DictConfig):
            yield from leaves(value, dotted)
        else:
            yield dotted, OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


composed = cache(compose)


def check_all(cfg: DictConfig) -> None:
    check(cfg)
    check_config(cfg)


def written(value: Any) -> str:
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def test_the_tables_are_parsed() -> None:
    keys = {entry.key for entry in ENTRIES}
    assert {"seed", "sweep.jobs", "pruner.scope", "pruner.grow.at", "data.root", "trainer.devices"} <= keys
    widths = {
        choice: entry.default_of(choice)
        for entry in ENTRIES
        for choice in ("resnet20", "wide_resnet20")
        if entry.key == "model.width" and choice in entry.choices
    }
    assert widths == {"resnet20": "1", "wide_resnet20": "2"}


def test_the_top_level_has_the_defaults_of_the_reference() -> None:
    config = OmegaConf.load(CONFIGS / "config.yaml")
    assert isinstance(config, DictConfig)
    known = {entry.key: entry for entry in ENTRIES}
    for key, value in leaves(config, ""):
        assert known[key].default in (written(value), f"`{written(value)}`"), key


@pytest.mark.parametrize(("group", "choice"), CHOICES, ids="=".join)
def test_every_choice_has_the_defaults_of_the_reference(group: str, choice: str) -> None:
    config = OmegaConf.load(CONFIGS / group / f"{choice}.yaml")
    assert isinstance(config, DictConfig)
    for key, value in leaves(config, group):
        having = [e for e in ENTRIES if e.key == key and (not e.choices or f"`{choice}`" in e.choices)]
        assert having, f"{key} is not in the reference"
        differs = group in ("pruner", "trainer") and ".criterion." not in key  # these files set other values
        assert differs or having[0].default in OWN or having[0].default_of(choice) == written(value), key


@pytest.mark.parametrize(
    "entry",
    [e for e in ENTRIES if e.key not in CLASSES],
    ids=lambda entry: f"{entry.key}-{entry.choices[:20]}",
)
def test_a_wrong_value_is_refused_with_what_the_reference_says(entry: Entry) -> None:
    group = entry.key.partition(".")[0]
    chosen = [f"{group}={name}" for name in re.findall(r"`(\w+)`", entry.choices)[:1]]
    cfg = composed(*(chosen if group in GROUPS else ["pruner=mag"])).copy()
    OmegaConf.update(cfg, entry.key, [["wrong"]], merge=False)
    with pytest.raises(BadRequest) as refused:
        check_all(cfg)
    assert (refused.value.key, refused.value.allowed) == (entry.key, entry.expected)


def test_the_tables_are_those_of_the_declarations() -> None:
    """``python -m prunelit.reference docs/configuration.md`` writes them."""
    found = tables()
    assert all(f"<!-- keys: {name} -->" in PAGE for name in found)
    assert rewritten(PAGE, found) == PAGE


def test_every_key_of_a_result_is_in_the_reference() -> None:
    rows = PAGE.partition("Keys of `result.json`")[2].partition("\n## ")[0]
    described = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (.*?) \|", rows, re.MULTILINE)))
    assert set(RESULT_FIELDS) - set(described) == set()
