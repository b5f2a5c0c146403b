"""Say so when a training ends before the network has the density that was asked for."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_warn

from prunelit.pruning.plan import Plan
from prunelit.training.fit.timing import Shortfall

Steps = list[tuple[Plan, float | None]]
"""What each pruning does: its plan, and the density it ends with, None where the plan decides."""


def warn_of_shortfall(
    steps: Steps, done: int, shortfall: Shortfall | None, max_epochs: int | None, density: float
) -> int:
    """Warn if not all prunings come before the training ends; return how many there will be.

    Args:
        steps: all prunings.
        done: how many of them are done.
        shortfall: what the training lacks, None if it lacks nothing.
        max_epochs: the trainer's setting.
        density: the density now.
    """
    if shortfall is None:
        return len(steps)
    come = done + shortfall.prunings
    reached = steps[come - 1][1] if shortfall.prunings else density
    rank_zero_warn(
        f"max_epochs={max_epochs} ends before the last of {len(steps)} prunings, "
        f"so the network stays denser than asked{_densities(steps, reached)}: "
        f"max_epochs={(max_epochs or 0) + shortfall.epochs} or more reaches it"
    )
    return come


def warn_of_early_end(steps: Steps, done: int, density: float) -> None:
    """Warn that the training has ended after ``done`` prunings, with ``density`` reached."""
    rank_zero_warn(
        f"the training ended after {done} of {len(steps)} prunings, so the network stays denser than asked"
        f"{_densities(steps, density)}"
    )


def _densities(steps: Steps, reached: float | None) -> str:
    requested = steps[-1][1]
    if reached is None or requested is None:
        return ""
    return f" (density {reached:.4g} instead of {requested:.4g})"
