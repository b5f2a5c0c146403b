"""Where a run's config differs from the published experiment that it is laid beside."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from prunelit.study.report.labels import flatten


def differing_settings(report: str, data: str, model: str, config: Mapping[str, Any]) -> str:
    """Return what the run has otherwise, as ``pruner.rounds=100 (published: 1)``; empty if nothing.

    The published settings are those of ``conf/experiment``; where there is none, nothing is known.
    """
    settings = published_settings().get((re.match(r"[a-z]*", report)[0], data, model), {})  # type: ignore[index]
    if not config:
        return ""
    ours = flatten(config)
    return "; ".join(
        f"{key}={_text(ours.get(key))} (published: {_text(value)})"
        for key, value in settings.items()
        if _text(ours.get(key)) != _text(value)
    )


@cache
def published_settings() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Return, by author, data set and model, the settings of the experiments in ``conf/experiment``."""
    from prunelit.study.command import CONFIGS

    found = {}
    for path in sorted((CONFIGS / "experiment").glob("*.yaml")):
        content = yaml.safe_load(path.read_text())
        chosen: dict[str, str] = {}
        for default in content.pop("defaults", []):
            if isinstance(default, dict):
                chosen |= {str(k).removeprefix("override /"): str(v) for k, v in default.items()}
        content.pop("name", None)
        names = {f"{group}.name": chosen[group] for group in ("optimizer", "scheduler") if group in chosen}
        key = (path.stem.partition("_")[0], chosen.get("data", ""), chosen.get("model", ""))
        amount = ("compression", "sparsity", "pruner.threshold")
        settings = {name: value for name, value in flatten(content).items() if name not in amount}
        found[key] = {**names, **settings}
    return found


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)
