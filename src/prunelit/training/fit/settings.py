"""The settings of a pruning in a checkpoint, which are compared with those of the callback that resumes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from lightning.pytorch.utilities import rank_zero_warn

from prunelit.request import PruningWarning


def settings_of(criterion: object, asked: tuple[str, Any], *parts: Any) -> dict[str, str]:
    """Return the criterion, the amount and the fields of the dataclasses ``parts`` as text, by name."""
    key, value = asked
    settings = {"criterion": type(criterion).__name__, "amount": f"{key}={value}"}
    for part in parts:
        settings |= {field.name: f"{field.name}={getattr(part, field.name)!r}" for field in fields(part)}
    return settings


def warn_of_other_settings(before: Mapping[str, str] | None, now: Mapping[str, str]) -> None:
    """Warn if a checkpoint comes from a callback with other settings, as far as both know them."""
    changed = [name for name in now if before and before.get(name, now[name]) != now[name]]
    if before and changed:
        pairs = "; ".join(f"{before[name]} then, {now[name]} now" for name in changed)
        rank_zero_warn(
            f"the checkpoint comes from a pruning with other arguments ({pairs}): what was pruned stays as it"
            " is, and only prunings that are still due follow the arguments of now",
            category=PruningWarning,
        )
