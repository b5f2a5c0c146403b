"""The option ``threshold`` as a list: each threshold is evaluated, and the first one is applied."""

from __future__ import annotations

from typing import Annotated, Any

from annotated_types import Len

from prunelit.amount import Amount
from prunelit.declared import Option, Says
from prunelit.pruning.plan import Plan
from prunelit.request import BadRequest
from prunelit.training.fit.timing import Timing

THRESHOLDS = Option(
    "threshold",
    Annotated[
        float | Annotated[tuple[float, ...], Len(1)] | None, Says("a number, a list of numbers, or null")
    ],
    None,
)


def listed_thresholds(options: dict[str, Any], amount: Amount) -> tuple[float, ...]:
    """Return the thresholds if ``options["threshold"]`` is a list, and replace the list by its first value.

    With an ``amount``, each threshold of the list is evaluated, and none of them is applied.

    Raises:
        BadRequest: not finite numbers.
    """
    asked = THRESHOLDS.check(options.get("threshold"))
    if not isinstance(asked, tuple):
        return ()
    options["threshold"] = asked[0] if amount.is_decided else None
    return asked


def check_thresholds(thresholds: tuple[float, ...], plan: Plan, timing: Timing) -> None:
    """Raise BadRequest for a list of thresholds with several rounds."""
    if thresholds and (timing.moment.rounds_apart or plan.rounds != 1):
        raise BadRequest("threshold", list(thresholds), "one number", "a list is for a single pruning")
