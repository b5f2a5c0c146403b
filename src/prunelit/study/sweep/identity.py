"""Which run a request is: the name of its folder, from the resolved config."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

NO_RESULT = (
    *("name", "output_dir", "rerun", "logger", "hydra", "sweep"),
    *("data.download", "data.workers", "data.in_memory"),
)
"""Keys that cannot change what a run finds, and so are no part of its identity."""


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """Return the config as plain values, interpolations resolved, without Hydra's own node."""
    values = {str(key): cfg[key] for key in cfg if key != "hydra"}
    return {
        key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        for key, value in values.items()
    }


def config_hash(cfg: DictConfig) -> str:
    """Return ten hex digits of the resolved config, less what cannot change the result.

    The same request gives the same digits: numbers count by value (``1`` is ``1.0``), a named
    data set does not depend on where it lies, and ``compression`` or ``sparsity`` left out is the
    pruner's own.
    """
    values = resolved(cfg)
    for key in NO_RESULT:
        _drop(values, key.split("."))
    if values.get("data", {}).get("name") != "folder":
        _drop(values, ["data", "root"])
    compression, sparsity = requested(cfg)
    values["compression"], values["sparsity"] = compression, sparsity
    _drop(values, ["pruner", "compression"])
    text = json.dumps(_canonical(values), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def requested(cfg: DictConfig) -> tuple[Any, Any]:
    """Return the compression and sparsity asked for; the pruner's own compression if neither is.

    The dense baseline has compression 0 whatever is asked, so that it is one run in a sweep.
    """
    if cfg.pruner.criterion is None:
        return 0.0, None
    if cfg.compression is None and cfg.sparsity is None:
        return None if decides_density(cfg) else cfg.pruner.compression, None
    return cfg.compression, cfg.sparsity


def decides_density(cfg: DictConfig) -> bool:
    """Whether the pruner's scope settles the density by itself: N:M, or like another run's masks."""
    scope = str(cfg.pruner.scope)
    return ":" in scope or scope == "like"


def slug(cfg: DictConfig) -> str:
    """Return the readable name of a run's folder, such as ``digits-fc-synflow-c0.5-seed0-1a2b3c4d5e``."""
    compression, sparsity = requested(cfg)
    amount = f"s{_canonical(sparsity)}" if compression is None else f"c{_canonical(compression)}"
    if compression is None and sparsity is None:
        amount = str(cfg.pruner.scope) if decides_density(cfg) else f"t{cfg.pruner.threshold}"
    parts = [cfg.data.name, cfg.model.name, cfg.pruner.name, amount, f"seed{cfg.seed}"]
    readable = re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join(map(str, parts))).lstrip("._-")
    return f"{readable[:80]}-{config_hash(cfg)}"


def folder(cfg: DictConfig) -> Path:
    """Return the run's folder, ``<output_dir>/<name>/<slug>``."""
    return Path(str(cfg.output_dir)) / str(cfg.name) / slug(cfg)


def register_resolvers() -> None:
    """Make ``${run_slug:}`` and ``${run_folder:}`` known to configs."""
    OmegaConf.register_new_resolver("run_slug", lambda *, _root_: slug(_root_), replace=True)
    OmegaConf.register_new_resolver("run_folder", lambda *, _root_: str(folder(_root_)), replace=True)


def _drop(values: dict[str, Any], path: list[str]) -> None:
    for key in path[:-1]:
        values = values.get(key) or {}
    values.pop(path[-1], None)


def _canonical(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_canonical(item) for item in value]
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
