"""Warn of options that change nothing, because another one that they need is not used."""

from __future__ import annotations

import warnings
from dataclasses import fields
from typing import Any

from prunelit.pruning.growth import Growth
from prunelit.pruning.parameters import Selection
from prunelit.pruning.plan import Plan
from prunelit.request import PruningWarning
from prunelit.training.fit.retraining import Retraining
from prunelit.training.fit.timing import Timing


def warn_of_unused(
    selection: Selection, plan: Plan, growth: Growth, timing: Timing, retraining: Retraining
) -> None:
    """Warn of each option that is not at its default and changes nothing.

    Warns:
        PruningWarning: the option, and what it needs.
    """
    if selection.granularity != "unit":
        _warn_unless_default(plan, "round_to", "granularity=unit")
    if plan.schedule != "constant":
        _warn_unless_default(plan, "share", "schedule=constant")
        if plan.rounds == 1 and not timing.moment.rounds_apart:
            _warn_unless_default(plan, "schedule", "several rounds")
    if retraining.repair is None:
        _warn_unless_default(retraining, "ridge", "repair")
    if growth.at is None:
        for field in fields(growth):
            _warn_unless_default(growth, field.name, "grow.at", "grow.")


def _warn_unless_default(options: Any, name: str, needed: str, prefix: str = "") -> None:
    value = getattr(options, name)
    default = next(field.default for field in fields(options) if field.name == name)
    if value != default:
        message = f"{prefix}{name}={value} changes nothing without {needed}"
        warnings.warn(message, PruningWarning, stacklevel=2)
