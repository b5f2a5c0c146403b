"""When to prune, and how dense the network is after each time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from annotated_types import Ge
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.pruning.plan import Plan


@dataclass(frozen=True)
class Timing:
    """The moments of pruning."""

    when: Annotated[
        Literal["start", "epoch", "end"],
        Doc(
            "The moment of pruning. `start`: all rounds before training, or after `pre_epochs`. "
            "`epoch`: one round every `every` epochs, at the start of the epoch, so that a logged "
            "accuracy belongs to the weights that are saved with it. `end`: all rounds after "
            "training."
        ),
    ] = "start"
    pre_epochs: Annotated[
        Annotated[int, Ge(0)] | None,
        Doc(
            "The number of epochs before the first pruning of `start` and `epoch`. null: 0 with "
            "`start`. With `epoch`, as many as before every further round (`every`, and k more if "
            "weights are rewound to epoch k), but 0 if training resumes from a checkpoint of a "
            "training without pruning."
        ),
    ] = None
    every: Annotated[int, Ge(1), Doc("The number of epochs between two rounds.")] = 1
    rewound_to: Annotated[int, Ge(0), Doc("The epoch to which weights are rewound after each round.")] = 0

    def __post_init__(self) -> None:
        check_fields(self)

    def steps(self, plan: Plan, density: float | None) -> list[tuple[Plan, float | None]]:
        """Return what each pruning does: its plan and the density it ends with."""
        if self.when != "epoch":
            return [(plan, density)]
        one = replace(plan, rounds=1, schedule="exponential")
        return [(one, target) for target in plan.targets(density)]

    @property
    def at_end(self) -> bool:
        """Whether pruning comes after training."""
        return self.when == "end"

    def first(self, trained: bool = False) -> int:
        """Return the epoch at whose start the first pruning comes, unless it comes after training.

        ``trained`` tells that the network was trained before, without pruning.
        """
        if self.pre_epochs is not None:
            return self.pre_epochs
        return self.every + self.rewound_to if self.when == "epoch" and not trained else 0

    def next_epoch(self, done: int, last: int | None, trained: bool = False) -> int:
        """Return the epoch at whose start the next pruning comes, unless it comes after training.

        Args:
            done: prunings so far.
            last: the epoch of the last one; None if that is not known.
            trained: see :meth:`first`.
        """
        return last + self.every if done and last is not None else self.first(trained) + done * self.every

    def next_pruning(self, done: int, steps: int, epochs: int) -> int:
        """Return the epoch that the next of ``steps`` prunings begins; ``epochs``, the end, without one."""
        return epochs if self.at_end or done >= steps else min(epochs, self.next_epoch(done, None))

    def since_pruning(self, epoch: int) -> int:
        """Return the epochs from the first pruning of ``start`` to ``epoch``."""
        return epoch - self.first()

    def epochs(self, requested: int, steps: int) -> int:
        """Return the epochs of the whole run when ``requested`` are asked for.

        ``start``: those after the pruning. Otherwise all, or as many as ``steps`` rounds need, with
        ``every`` epochs of training after the last.
        """
        if self.when == "start":
            return self.first() + requested
        if self.when == "end":
            return requested
        return max(requested, self.first() + steps * self.every)
