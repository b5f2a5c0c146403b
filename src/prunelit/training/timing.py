"""When to prune, and how dense the network is after each time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge
from lightning.pytorch.utilities import rank_zero_warn
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.pruning.rounds import Plan


@dataclass(frozen=True)
class Timing:
    """The moments of pruning."""

    when: Annotated[
        Literal["start", "epoch", "end"],
        Doc(
            "`start`: all rounds at once before training, or after `pre_epochs` of it; `epoch`: a round "
            "every `every` epochs, at the start of the epoch, so that a logged accuracy belongs to the "
            "weights that were saved; `end`: all rounds at once after training."
        ),
    ] = "start"
    pre_epochs: Annotated[
        int, Ge(0), Doc("How many epochs of training come before the first pruning of `start` and `epoch`.")
    ] = 0
    every: Annotated[int, Ge(1), Doc("How many epochs lie between two rounds.")] = 1

    def __post_init__(self) -> None:
        check_fields(self)

    def steps(self, plan: Plan, density: float | None) -> list[tuple[Plan, float | None]]:
        """Return what each pruning does: its plan and the density it ends with."""
        if self.when != "epoch":
            return [(plan, density)]
        one = replace(plan, rounds=1, schedule="exponential")
        return [(one, target) for target in plan.targets(density)]

    def due(self, epoch: int, done: int) -> bool:
        """Whether the next pruning, after ``done`` of them, comes at the start of ``epoch``."""
        return self.when != "end" and epoch >= self.pre_epochs + done * self.every

    def next_pruning(self, done: int, steps: int, epochs: int) -> int:
        """Return the epoch that the next of ``steps`` prunings begins; ``epochs``, the end, without one."""
        if self.when == "end" or done >= steps:
            return epochs
        return min(epochs, self.pre_epochs + done * self.every)

    def since_pruning(self, epoch: int) -> int:
        """Return the epochs from the first pruning of ``start`` to ``epoch``."""
        return epoch - self.pre_epochs

    def warn_if_late(self, epochs: int | None, steps: int) -> None:
        """Warn where not all of ``steps`` prunings come within ``epochs``; None or -1: without end."""
        needed = self.pre_epochs + (steps - 1) * self.every + 1
        # With no epoch at all, everything is done before training.
        if self.when != "end" and epochs is not None and 0 < epochs < needed:
            rank_zero_warn(
                f"max_epochs={epochs} ends before the last of {steps} prunings, so the network stays denser "
                f"than asked: max_epochs={needed} or more reaches it"
            )

    def epochs(self, asked: int, steps: int) -> int:
        """Return the epochs of the whole run when ``asked`` are asked for.

        ``start``: those after the pruning. Otherwise all, or as many as ``steps`` rounds need, with
        ``every`` epochs of training after the last.
        """
        if self.when == "start":
            return self.pre_epochs + asked
        if self.when == "end":
            return asked
        return max(asked, self.pre_epochs + steps * self.every)
