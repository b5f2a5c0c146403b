"""The identity of a run: the name of its folder, computed from the resolved config."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from prunelit.amount import BUDGETS, Amount, set_by, sets_density
from prunelit.request import BadRequest
from prunelit.study.configs import CONFIGS

NO_RESULT = (
    *("name", "output_dir", "rerun", "logger", "hydra", "sweep"),
    *("data.download", "data.workers", "data.in_memory"),
)
"""Keys that cannot change the result and are therefore not part of the identity."""

NEUTRAL = {"pruner.criterion.cache": None}
"""Further keys that cannot change the result, with the value that the identity has instead of theirs."""

ADDED = {
    "checkpoint_strict": True,
    "distillation": 0.0,
    "distillation_temperature": 4.0,
    "trainer.threads": None,
    "trainer.compile": False,
    "trainer.channels_last": False,
    **dict.fromkeys(("data.mean", "data.std", "data.bits", "data.test_share"), None),
    **dict.fromkeys(BUDGETS, None),
    "pruner.granularity": "weight",
    "pruner.cut_normalized": False,
    "pruner.unit_scores": "sum",
    "pruner.normalize": "mean",
    "pruner.round_to": 1,
    "pruner.cut": False,
    "pruner.slimming": 0.0,
    "pruner.repair": None,
    "pruner.ridge": 0.01,
    "pruner.recalibrate": None,
}
"""Keys that were added after the first version, with the value that is equivalent to no key, so that earlier
runs keep their folders."""


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations resolved, without Hydra's own node."""
    values = {str(key): cfg[key] for key in cfg if key != "hydra"}
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in values.items()
    }


def config_hash(cfg: DictConfig) -> str:
    """Return ten hex digits of the resolved config without the keys that cannot change the result.

    The same settings give the same digits: numbers are compared by value (``1`` is ``1.0``), the location of
    a named data set does not matter, and an omitted ``compression`` or ``sparsity`` equals the key of the
    pruner.
    """
    values = resolved(cfg)
    added = {key: _value(values, key.split(".")) for key in ADDED}
    for key in NO_RESULT:
        _drop(values, key.split("."))
    if values.get("data", {}).get("name") != "folder":
        _drop(values, ["data", "root"])
    for key, value in NEUTRAL.items():
        _replace(values, key.split("."), value)
    amount = _amount(cfg)
    values |= vars(amount)
    for key, default in ADDED.items():
        if added[key] == default or (key in BUDGETS and getattr(amount, key) is None):
            _drop(values, key.split("."))
    _drop(values, ["pruner", "compression"])
    text = json.dumps(_canonical(values), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def _amount(cfg: DictConfig) -> Amount:
    """Return the requested amount, none if it is invalid, because Hydra needs a folder before the check."""
    try:
        return Amount.of(cfg)
    except BadRequest:
        return Amount()


def slug(cfg: DictConfig) -> str:
    """Return the readable name of a run's folder, such as ``digits-fc-synflow-c0.5-seed0-1a2b3c4d5e``."""
    amount = _amount(cfg).short
    if not amount:
        amount = set_by(cfg.pruner) if sets_density(cfg.pruner) else f"t{cfg.pruner.threshold}"
    parts = [cfg.data.name, cfg.model.name, method(cfg), amount, f"seed{cfg.seed}"]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(map(str, parts))).lstrip("._-")
    return f"{readable[:80]}-{config_hash(cfg)}"


def method(cfg: DictConfig) -> str:
    """Return the name of a run's method: its pruner, and its criterion if that is not the pruner's own.

    ``iterative`` prunes by magnitude; with ``pruner.criterion=snip`` it is ``iterative-snip``.
    """
    name, criterion = str(cfg.pruner.name), cfg.pruner.criterion
    target = criterion.get("_target_") if isinstance(criterion, DictConfig) else criterion
    own = _criterion_of(name)
    if target is None or own is None or class_name(target) == class_name(own):
        return name
    return f"{name}-{class_name(target)}"


def class_name(target: str) -> str:
    """Return a short name for a class: ``l1_filter`` for ``prunelit.pruning.criteria.L1Filter``."""
    last = str(target).rpartition(".")[2]
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z][a-z])", "_", last).lower()
    joined = words.replace("_", "")
    return next((name for name in _pruners() if name.replace("_", "") == joined), words)


@cache
def _pruners() -> list[str]:
    return sorted(path.stem for path in (CONFIGS / "pruner").glob("*.yaml"))


@cache
def _criterion_of(pruner: str) -> str | None:
    """Return the criterion that a pruner's own file names, None without such a file."""
    path = CONFIGS / "pruner" / f"{pruner}.yaml"
    if not path.is_file():
        return None
    criterion = OmegaConf.to_container(OmegaConf.load(path))["criterion"]  # type: ignore[index,call-overload]
    target = criterion.get("_target_") if isinstance(criterion, Mapping) else criterion
    return None if target in (None, "???") else str(target)


def folder(cfg: DictConfig) -> Path:
    """Return the run's folder, ``<output_dir>/<name>/<slug>``."""
    return Path(str(cfg.output_dir)) / str(cfg.name) / slug(cfg)


def register_resolvers() -> None:
    """Make ``${run_slug:}`` and ``${run_folder:}`` known to configs."""
    OmegaConf.register_new_resolver("run_slug", lambda *, _root_: slug(_root_), replace=True)
    OmegaConf.register_new_resolver("class_name", class_name, replace=True)
    OmegaConf.register_new_resolver("run_folder", lambda *, _root_: str(folder(_root_)), replace=True)


def _value(values: Any, path: list[str]) -> Any:
    """Return the value of a key, None if there is no such key."""
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values


def _drop(values: dict[str, Any], path: list[str]) -> None:
    for key in path[:-1]:
        values = values.get(key) or {}
    values.pop(path[-1], None)


def _replace(values: dict[str, Any], path: list[str], new: Any) -> None:
    """Replace the value of a key, if there is such a key."""
    for key in path[:-1]:
        inner = values.get(key)
        if not isinstance(inner, dict):
            return
        values = inner
    if path[-1] in values:
        values[path[-1]] = new


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
