"""Say so when a training ends before the network has the density that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from lightning.pytorch.utilities import rank_zero_warn

from prunelit.pruning.plan import Plan

Steps = list[tuple[Plan, float | None]]
"""What each pruning does: its plan, and the density it ends with, None where the plan decides."""


@dataclass(frozen=True)
class Coming:
    """The prunings that are left at the beginning of a training.

    Attributes:
        steps: all prunings.
        done: how many of them are behind.
        first: the epoch at whose start the next one comes.
        every: epochs from one to the next.
    """

    steps: Steps
    done: int
    first: int
    every: int

    def warn_if_too_late(self, end: int, max_epochs: int | None, density: float) -> int:
        """Warn if not all of them come before the training ends; return how many prunings there will be.

        Args:
            end: the epoch with which the training ends, counted as ``first`` is; -1: never.
            max_epochs: the trainer's setting that ``end`` follows from.
            density: the density now.
        """
        left = len(self.steps) - self.done
        needed = self.first + (left - 1) * self.every + 1
        if left <= 0 or end < 0 or end >= needed:
            return len(self.steps)
        come = self.done + len(range(self.first, end, self.every))
        reached = density if come == self.done else self.steps[come - 1][1]
        rank_zero_warn(
            f"max_epochs={max_epochs} ends before the last of {len(self.steps)} prunings, "
            f"so the network stays denser than asked{_densities(self.steps, reached)}: "
            f"max_epochs={(max_epochs or 0) + needed - end} or more reaches it"
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
