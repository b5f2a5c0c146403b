"""Checks of a composed config that need no data, network or device: milliseconds, before any work."""

from __future__ import annotations

import math
from typing import Any

from omegaconf import DictConfig

from prunelit.request import BadRequest, nearest
from prunelit.study.sweep.devices import MOST_SHARERS
from prunelit.study.sweep.identity import decides_density, requested

COUNTS = {"epochs": 0, "pre_epochs": 0, "batch_size": 1}
"""Whole numbers and the least value of each."""

LONGEST_NAME = 255
"""Bytes of a folder's name, by what file systems allow."""

ON_FAILURE = ("continue", "stop", "retry")
"""What a sweep does when a run has failed."""


def check(cfg: DictConfig) -> None:
    """Raise BadRequest for the first wrong value of the config's own keys."""
    for key, least in COUNTS.items():
        value = cfg[key]
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise BadRequest(key, value, f"an integer >= {least}")
    if not isinstance(cfg.seed, int) or isinstance(cfg.seed, bool) or not 0 <= cfg.seed < 2**32:
        raise BadRequest("seed", cfg.seed, "an integer from 0 to 4294967295")
    if not _is_number(cfg.label_smoothing) or not 0 <= cfg.label_smoothing < 1:
        raise BadRequest("label_smoothing", cfg.label_smoothing, "a number in [0, 1)")
    if not isinstance(cfg.rerun, bool):
        raise BadRequest("rerun", cfg.rerun, "true or false")
    if not str(cfg.name) or str(cfg.name).startswith((".", "/")) or ".." in str(cfg.name):
        raise BadRequest("name", cfg.name, "a name for a folder, such as baseline or cifar10/baseline")
    if max(len(part.encode()) for part in str(cfg.name).split("/")) > LONGEST_NAME:
        raise BadRequest("name", cfg.name, f"a name of at most {LONGEST_NAME} bytes")
    check_amount(cfg)
    check_sweep(cfg)


def check_sweep(cfg: DictConfig) -> None:
    """Raise BadRequest for a wrong value of how a sweep is done."""
    given = cfg.sweep
    if given.on_failure not in ON_FAILURE:
        raise BadRequest("sweep.on_failure", given.on_failure, nearest(str(given.on_failure), ON_FAILURE))
    for key, least, most, allowed in (
        ("retries", 0, math.inf, "an integer >= 0"),
        ("jobs", 1, math.inf, "an integer >= 1, or null"),
        ("runs_per_gpu", 1, MOST_SHARERS, f"an integer from 1 to {MOST_SHARERS}"),
        ("runs_per_job", 1, math.inf, "an integer >= 1"),
    ):
        value = given[key]
        whole = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        if not whole and not (key == "jobs" and value is None):
            raise BadRequest(f"sweep.{key}", value, allowed)
    minutes = given.checkpoint_minutes
    if minutes is not None and (not _is_number(minutes) or minutes < 0):
        raise BadRequest("sweep.checkpoint_minutes", minutes, "a number >= 0, or null")
    for key in ("isolate", "wait", "keep_checkpoints"):
        if not isinstance(given[key], bool):
            raise BadRequest(f"sweep.{key}", given[key], "true or false")


def check_amount(cfg: DictConfig) -> None:
    """Raise BadRequest unless at most one of compression and sparsity is given, and in range."""
    if cfg.compression is not None and cfg.sparsity is not None:
        both = f"compression={cfg.compression} is given too"
        raise BadRequest("sparsity", cfg.sparsity, "compression or sparsity, never both", both)
    for key in ("compression", "sparsity"):
        value = cfg[key]
        if value is not None and (not _is_number(value) or not 0 <= value < _LIMITS[key]):
            raise BadRequest(key, value, _ALLOWED[key])
    if any(cfg[key] is not None for key in _LIMITS) and decides_density(cfg):
        key = "compression" if cfg.compression is not None else "sparsity"
        raise BadRequest(key, cfg[key], "left out", f"pruner.scope={cfg.pruner.scope} decides the density")
    compression, _ = requested(cfg)
    if compression is not None and not _is_number(compression):
        raise BadRequest("pruner.compression", compression, _ALLOWED["compression"])


_LIMITS = {"compression": math.inf, "sparsity": 1.0}
_ALLOWED = {
    "compression": "a number >= 0, log10(prunable / kept)",
    "sparsity": "a number in [0, 1), the removed share",
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
