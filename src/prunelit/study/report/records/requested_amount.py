"""The amount of pruning that a run requested, as text and as numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from prunelit.amount import KEYS, Amount, set_by, sets_density
from prunelit.request import BadRequest
from prunelit.study.report.plain_text import plain

OF_CHECKPOINT = "as in the checkpoint"
"""The requested amount of runs that prune nothing and start from a pruned checkpoint."""


def requested_amount(config: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[str, float]:
    """Return the requested amount of a config in words, and the corresponding density (NaN: none).

    A run that prunes nothing has the density of its checkpoint, which its ``result`` says.
    """
    pruner = config.get("pruner")
    if not isinstance(pruner, Mapping):
        return "", math.nan
    if pruner.get("criterion") is None:
        density = result.get("density") or 1.0
        return ("dense", 1.0) if density == 1 else (OF_CHECKPOINT, density)
    absent = dict.fromkeys(KEYS)
    try:
        amount = Amount.of({**absent, **config, "pruner": {**absent, **pruner}})
    except BadRequest:
        return "", math.nan
    if amount.density is not None:
        return amount.words, amount.density
    if amount.budget is not None:
        return plain(amount.words), math.nan
    if sets_density(pruner):
        return plain(set_by(pruner)), math.nan
    threshold = pruner.get("threshold")
    first = threshold[0] if isinstance(threshold, list) and threshold else threshold
    return plain(f"threshold {first}"), math.nan


def both_amounts(density: float, result: Mapping[str, Any]) -> dict[str, float]:
    """Return the requested amount as compression and as sparsity, the given one unchanged."""
    # Rounding removes errors of powers and logarithms, so that a requested 0.5 is 0.5.
    amounts = {
        "asked_compression": round(-math.log10(density), 12) + 0.0 if density > 0 else math.nan,
        "asked_sparsity": round(1 - density, 12),
    }
    return {key: amount if result.get(key) is None else result[key] for key, amount in amounts.items()}
