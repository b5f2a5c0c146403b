"""The settings that were requested of a run, under the names in its record and its loggers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig

from prunelit.amount import Amount
from prunelit.study.identity import config_hash, method, resolved


def requested(cfg: DictConfig) -> dict[str, Any]:
    """Return the keys with which every result begins: method, network, data, seed, and the amount."""
    return {**_subject(cfg), **{f"asked_{key}": value for key, value in vars(Amount.of(cfg)).items()}}


def result_of(cfg: DictConfig, found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of ``result.json``: requested settings, results ``found``, and the config's hash."""
    return {**requested(cfg), **found, "config_hash": config_hash(cfg)}


def hyperparameters(cfg: DictConfig) -> dict[str, Any]:
    """Return the same keys for every run, for TensorBoard's HPARAMS page; empty where a class has no such
    argument."""
    amount, values = Amount.of(cfg), resolved(cfg)
    pruner, optimizer = values["pruner"], values["optimizer"]
    return {
        **_subject(cfg),
        **{key: "" if value is None else value for key, value in vars(amount).items()},
        **{key: values[key] for key in ("epochs", "pre_epochs", "batch_size", "label_smoothing")},
        **{f"pruner.{key}": pruner.get(key, "") for key in ("rounds", "schedule", "scope", "when")},
        "pruner.pattern": pruner.get("pattern") or "",
        "optimizer": optimizer.get("name", ""),
        **{f"optimizer.{key}": optimizer.get(key, "") for key in ("lr", "weight_decay")},
        "scheduler": values["scheduler"].get("name", ""),
    }


def _subject(cfg: DictConfig) -> dict[str, Any]:
    return {"pruner": method(cfg), "model": cfg.model.name, "data": cfg.data.name, "seed": cfg.seed}
