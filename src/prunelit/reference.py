"""The reference of all keys, made from their declarations: the tables of docs/configuration.md, and --help.

python -m prunelit.reference docs/configuration.md     rewrites the tables of that file
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from prunelit.declared import Option, options_of
from prunelit.study.configs import CONFIGS, load_choice
from prunelit.study.identity import register_resolvers
from prunelit.study.options import SweepOptions, TopLevel
from prunelit.training.config.keys import Node, nodes_of


@dataclass(frozen=True)
class Row:
    """One key: its full name, the choices that have it (empty: all), and its declaration."""

    key: str
    choices: str
    default: str
    expected: str
    meaning: str

    @property
    def markdown(self) -> str:
        """The row of a table."""
        choices = f" ({self.choices})" if self.choices else ""
        return f"| `{self.key}`{choices} | {self.default} | {self.expected} | {self.meaning} |"


def rows_of(node: DictConfig, path: str, options: Sequence[Option], choices: str = "") -> Iterator[Row]:
    """Yield a row for each key of a config's node that is declared, in the order of the config."""
    known = {option.name: option for option in options}
    prefix = f"{path}." if path else ""
    for key, value in node.items_ex(resolve=False):
        option = known.get(str(key))
        if option is not None and not option.name.startswith("_"):
            yield Row(f"{prefix}{key!s}", choices, _shown(value), option.expected, option.meaning)


def rows_of_group(cfg: DictConfig, group: str, choices: str = "") -> list[Row]:
    """Return the rows of a group in a composed config, including the keys of a criterion."""
    found: list[Row] = []
    for node in _nodes(cfg, group):
        found += rows_of(OmegaConf.select(cfg, node.path), node.path, list(node.options.values()), choices)
    return found


def _nodes(cfg: DictConfig, group: str) -> list[Node]:
    return [node for node in nodes_of(cfg) if node.path == group or node.path.startswith(f"{group}.")]


def _shown(value: Any) -> str:
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=False)
    if isinstance(value, dict):
        return "the pruner's own"
    text = json.dumps(value) if isinstance(value, bool) or value is None else str(value)
    return f"`{text}`" if "$" in text else text


def compose(*overrides: str) -> DictConfig:
    """Return the config of a command line."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return hydra_compose("config", list(overrides))


def tables() -> dict[str, list[Row]]:
    """Return the rows of each table of the reference, by its name."""
    plain = compose("pruner=mag")
    return {
        "top level": list(rows_of(plain, "", list(options_of(TopLevel).values()))),
        "sweep": list(rows_of(plain.sweep, "sweep", list(options_of(SweepOptions).values()))),
        "pruner": [row for row in rows_of_group(plain, "pruner") if "criterion." not in row.key],
        "criteria": [row for row in _merged("pruner", plain) if "criterion." in row.key],
        "trainer": rows_of_group(plain, "trainer"),
        **{group: _merged(group, plain) for group in ("data", "model", "optimizer", "scheduler")},
    }


def _merged(group: str, plain: DictConfig) -> list[Row]:
    """Return the rows of all choices of a group, one for each key and meaning, with every default."""
    choices = sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))
    found: dict[tuple[str, str, str], dict[str, list[str]]] = {}
    for choice in choices:
        for row in rows_of_group(_chosen(plain, group, choice), group):
            defaults = found.setdefault((row.key, row.expected, row.meaning), {})
            defaults.setdefault(row.default, []).append(f"`{choice}`")
    order = list(dict.fromkeys(key for key, *_ in found))
    rows = []
    for (key, expected, meaning), defaults in sorted(found.items(), key=lambda item: order.index(item[0][0])):
        having = [name for names in defaults.values() for name in names]
        several = [f"{default} ({', '.join(names)})" for default, names in defaults.items()]
        default = several[0].partition(" (")[0] if len(several) == 1 else ", ".join(several)
        own = "the choice's own" if key.endswith((".name", ".dataset")) else default
        rows.append(
            Row(key, "" if len(having) == len(choices) else ", ".join(having), own, expected, meaning)
        )
    return rows


def _chosen(plain: DictConfig, group: str, choice: str) -> DictConfig:
    """Return a config with another choice of one group, without composing it again."""
    cfg = plain.copy()
    OmegaConf.set_struct(cfg, False)
    node = load_choice(group, choice)
    base = {str(key): value for key, value in plain.pruner.items() if key != "criterion"}
    cfg[group] = OmegaConf.merge(base, node) if group == "pruner" else node
    return cfg


def rewritten(text: str, found: dict[str, list[Row]]) -> str:
    """Return a page whose tables, each after ``<!-- keys: NAME -->``, are made from the declarations."""
    for name, rows in found.items():
        lines = ["| key | default | must be | meaning |", "| --- | --- | --- | --- |"]
        table = "\n".join([*lines, *(row.markdown for row in rows)])
        mark = f"<!-- keys: {name} -->"
        before, found_mark, after = text.partition(mark)
        if found_mark:
            rest = re.sub(r"^\n+(?:\|[^\n]*\n)*", "", after)
            text = (
                f"{before}{mark}\n\n{table}\n{rest}"
                if rest.startswith("\n")
                else f"{before}{mark}\n\n{table}\n\n{rest}"
            )
    return text


def main() -> None:
    """Rewrite the tables of the page that the command line names."""
    register_resolvers()
    page = Path(sys.argv[1])
    page.write_text(rewritten(page.read_text(), tables()))


if __name__ == "__main__":
    main()
