"""How the config of a run differs from the published experiment with which it is compared."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from prunelit.amount import KEYS
from prunelit.study.report.records.labels import flatten, value_text


def differing_settings(report: str, data: str, model: str, config: Mapping[str, Any]) -> str:
    """Return the differences of the run, such as ``pruner.rounds=100 (published: 1)``; empty if nothing.

    ``conf/experiment`` has the published settings; without a file there, nothing is known.
    """
    author = report.rstrip("0123456789")
    by_pruner = published_settings().get((author, data, model), {})
    if not config or not by_pruner:
        return ""
    ours = flatten(config)
    # A single experiment applies to all methods; of several, the one of the method applies.
    alone = next(iter(by_pruner.values())) if len(by_pruner) == 1 else {}
    settings = by_pruner.get(str(ours.get("pruner.name")), alone)
    return "; ".join(
        f"{key}={value_text(ours.get(key))} (published: {value_text(value)})"
        for key, value in settings.items()
        if value_text(ours.get(key)) != value_text(value)
    )


@cache
def published_settings() -> dict[tuple[str, str, str], dict[str, dict[str, Any]]]:
    """Return the settings of ``conf/experiment``: by author, data set and model, and there by pruner."""
    from prunelit.study.configs import CONFIGS

    found: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    for path in sorted((CONFIGS / "experiment").glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        chosen: dict[str, str] = {}
        for default in content.pop("defaults", []):
            if isinstance(default, dict):
                chosen |= {str(k).removeprefix("override /"): str(v) for k, v in default.items()}
        content.pop("name", None)
        names = {f"{group}.name": chosen[group] for group in ("optimizer", "scheduler") if group in chosen}
        key = (path.stem.partition("_")[0], chosen.get("data", ""), chosen.get("model", ""))
        amount = (*KEYS, "pruner.threshold")
        settings = {name: value for name, value in flatten(content).items() if name not in amount}
        found.setdefault(key, {})[chosen.get("pruner", "")] = {**names, **settings}
    return found
