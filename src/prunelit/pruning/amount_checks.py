"""Check what a pruning is asked for before it begins."""

from __future__ import annotations

from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.masks import num_kept
from prunelit.pruning.parameters import Selection
from prunelit.request import BadRequest


def check_density(density: float, n: int, asked: tuple[str, float] | None = None) -> None:
    """Raise BadRequest unless ``density`` is in [0, 1] and keeps at least one of ``n`` parameters.

    ``asked`` is the key and value from which the density comes, for the message.
    """
    key, value = asked or ("density", density)
    if not 0 <= density <= 1:
        raise BadRequest(key, value, "a density from 0 to 1")
    if num_kept(density, n) < 1:
        raise BadRequest(key, value, f"one that keeps at least 1 of the {n} prunable parameters")


def check_normalized(selection: Selection, criterion: Criterion, rounds: int) -> None:
    """Raise BadRequest if scores would be computed of a network whose removed units still count in means."""
    if selection.cut_normalized and rounds > 1 and not criterion.only_reads_weights():
        name = type(criterion).__name__
        why = f"in later rounds of {name}, removed units would still take part in normalizations as zeros"
        raise BadRequest("cut_normalized", True, "false, or one round", why)
