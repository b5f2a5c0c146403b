"""Convert configs recorded by earlier versions to the present keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OF_GROWTH = {"every": 1, "share": 0.1, "decay": "none", "stop": 1.0, "regrow": False}
"""The values of the keys of ``pruner.grow`` without growth."""


def with_present_keys(config: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded config; values of one former key for scope, densities and growth are distributed to
    their present keys."""
    pruner = config.get("pruner")
    if not isinstance(pruner, Mapping) or "pattern" in pruner or "scope" not in pruner:
        return config
    former = dict(pruner)
    scope, run, at = former["scope"], former.pop("mask_from", None), former.pop("grow", None)
    given = {key: former.pop(key) for key in ("decay", "stop", "regrow") if key in former}
    if at is not None:  # then both keys configured the exchanges
        given |= {key: former.pop(key) for key in ("every", "share") if key in former}
        former |= {key: OF_GROWTH[key] for key in ("every", "share")}
    is_pattern, is_like = ":" in str(scope), scope == "like"
    present = {
        **former,
        "scope": "global" if is_pattern or is_like else scope,
        "pattern": str(scope) if is_pattern else None,
        "densities_from": (run or "") if is_like else None,
        "grow": {"at": at, **OF_GROWTH, **given},
    }
    return {**config, "pruner": present}
