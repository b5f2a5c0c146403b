"""The keys of a pruner's config: amounts, and which dataclass each option belongs to."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from prunelit.pruning.allocation import pattern_of
from prunelit.pruning.growth import Growth
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import Plan
from prunelit.request import BadRequest, nearest
from prunelit.training.retraining import Retraining
from prunelit.training.timing import Timing
from prunelit.training.training_batches import Sample


def target_density(compression: float | None, sparsity: float | None) -> float:
    """Return ``10 ** -compression`` or ``1 - sparsity``.

    Raises:
        BadRequest: both or neither given, or out of range.
    """
    if compression is not None and sparsity is not None:
        raise BadRequest(
            "sparsity", sparsity, "compression or sparsity, never both", f"compression={compression}"
        )
    if sparsity is not None:
        if not _is_number(sparsity) or not 0 <= sparsity < 1:
            raise BadRequest("sparsity", sparsity, "a number from 0 up to, but not including, 1")
        return 1 - sparsity
    if compression is None:
        raise BadRequest("compression", compression, "a number of 0 or more (or give sparsity)")
    if not _is_number(compression) or not 0 <= compression < float("inf"):
        raise BadRequest("compression", compression, "a number of 0 or more: log10(prunable / kept)")
    return float(10**-compression)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def listed_thresholds(options: dict[str, Any]) -> tuple[float, ...]:
    """Return the thresholds if ``options["threshold"]`` lists several, and leave the first in their place.

    Raises:
        BadRequest: not finite numbers; a list where several rounds follow each other.
    """
    asked = options.get("threshold")
    if asked is None:
        return ()
    several = isinstance(asked, Iterable) and not isinstance(asked, str)
    listed = list(asked) if several else [asked]
    if not listed or not all(_is_number(value) and math.isfinite(value) for value in listed):
        raise BadRequest("pruner.threshold", asked, "a number, or a list of numbers, or null")
    options["threshold"] = listed[0]
    if not several:
        return ()
    if options.get("when") == "epoch" or options.get("rounds", 1) != 1:
        raise BadRequest("pruner.threshold", asked, "one number", "a list is for a single pruning")
    return tuple(listed)


WHOLE = {"scope": "layer", "bias": True, "norm": True, "grow": None}
"""What holds where whole filters are pruned."""


def for_filters(options: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a criterion of whole filters.

    Raises:
        BadRequest: an option that would leave a part of a filter, or let layers compete.
    """
    why = "whole filters go with all their parts, a share a layer"
    for key, value in WHOLE.items():
        if options.get(key, value) != value:
            raise BadRequest(
                f"pruner.{key}", options[key], "null" if value is None else str(value).lower(), why
            )
    return {**options, **WHOLE}


Options = tuple[Selection, Plan, Growth, Sample, Timing, Retraining]


def distribute(options: dict[str, Any]) -> Options:
    """Give each option to the dataclass that has a field of its name."""
    kinds = (Selection, Plan, Growth, Sample, Timing, Retraining)
    known = {f.name for kind in kinds for f in fields(kind)}
    for key in options:
        if key == "density":
            raise BadRequest("density", options[key], "sparsity, which is 1 - density, or compression")
        if key not in known:
            raise BadRequest(key, options[key], nearest(key, known | {"compression", "sparsity"}))
    chosen: Any = [
        kind(**{f.name: options[f.name] for f in fields(kind) if f.name in options}) for kind in kinds
    ]
    _check_growth(*chosen)
    return tuple(chosen)


def _check_growth(
    selection: Selection, plan: Plan, growth: Growth, sample: Sample, timing: Timing, retraining: Retraining
) -> None:
    """Raise BadRequest where weights that change places do not fit what else is asked for."""
    if growth.grow is None:
        return
    if timing.when != "start":
        raise BadRequest("pruner.when", timing.when, "start", f"pruner.grow is {growth.grow}")
    if not retraining.masked_gradient:
        raise BadRequest("pruner.masked_gradient", False, "true", f"pruner.grow is {growth.grow}")
    if pattern_of(plan.scope) is not None:
        allowed = "a scope that is no pattern"
        raise BadRequest("pruner.scope", plan.scope, allowed, f"pruner.grow is {growth.grow}")
