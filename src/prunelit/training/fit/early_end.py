"""Warn if a training ends before the network has the requested density."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from prunelit.pruning.plan import Plan
from prunelit.training.fit.timing import Shortfall

Steps = list[tuple[Plan, float | None]]
"""The plan of each pruning and the density after it, None if the plan decides."""


def warn_of_shortfall(
    steps: Steps, done: int, shortfall: Shortfall | None, max_epochs: int | None, density: float
) -> int:
    """Warn if the training ends before all prunings; return the number of prunings that take place.

    Args:
        steps: all prunings.
        done: the number of completed prunings.
        shortfall: what the training lacks, None if it is long enough.
        max_epochs: the trainer's setting.
        density: the present density.
    """
    if shortfall is None:
        return len(steps)
    come = done + shortfall.prunings
    reached = steps[come - 1][1] if shortfall.prunings else density
    rank_zero_warn(
        f"max_epochs={max_epochs} ends before the last of {len(steps)} prunings, "
        f"so the network stays denser than requested{_densities(steps, reached)}: "
        f"max_epochs={(max_epochs or 0) + shortfall.epochs} or more is needed"
    )
    return come


def warn_of_early_end(steps: Steps, done: int, density: float) -> None:
    """Warn that the training has ended after ``done`` prunings, with ``density`` reached."""
    rank_zero_warn(
        f"the training ended after {done} of {len(steps)} prunings, so the network stays denser than "
        "requested"
        f"{_densities(steps, density)}"
    )


def _densities(steps: Steps, reached: float | None) -> str:
    requested = steps[-1][1]
    if reached is None or requested is None:
        return ""
    return f" (density {reached:.4g} instead of {requested:.4g})"
