"""The moments of pruning that ``when`` names, and the epochs that follow from them.

No other file compares ``when`` with a name or computes the epoch of a pruning. A new moment is a subclass of
:class:`Moment` with a name in :data:`When` and a place in :data:`MOMENTS`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Literal

from annotated_types import Ge
from typing_extensions import Doc

from prunelit.declared import check_fields
from prunelit.pruning.plan import Plan
from prunelit.request import BadRequest

When = Literal["start", "epoch", "end"]
"""The names of the moments."""


@dataclass(frozen=True)
class Timing:
    """The options for the moments of pruning; :attr:`moment` computes them."""

    when: Annotated[
        When,
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

    @property
    def moment(self) -> Moment:
        """The moment that ``when`` names, with these options."""
        return MOMENTS[self.when](self)

    def check_growth(self, why: str) -> None:
        """Raise BadRequest unless weights may be exchanged in the training after the pruning."""
        if not self.moment.growth_may_follow:
            allowed = " or ".join(name for name, kind in MOMENTS.items() if kind.growth_may_follow)
            raise BadRequest("when", self.when, allowed, why)
        if self.every != 1:
            raise BadRequest("every", self.every, "1 (the epochs between exchanges are grow.every)", why)


@dataclass(frozen=True)
class Now:
    """The progress of the training of a network.

    Attributes:
        epoch: the number of trained epochs.
        step: the number of optimizer steps of the trainer.
        prunings: the number of completed prunings.
        last_pruning: the epoch of the last pruning; None if there was none, or if it is unknown.
        trained_before: whether training resumes from a checkpoint of a training without pruning.
    """

    epoch: int = 0
    step: int = 0
    prunings: int = 0
    last_pruning: int | None = None
    trained_before: bool = False


@dataclass(frozen=True)
class Shortfall:
    """A training that ends too early: the number of prunings that still take place, and of missing epochs."""

    prunings: int
    epochs: int


class Moment:
    """The moments of pruning in a training. Epochs are counted for the network, over all of its fits.

    Attributes:
        rounds_apart: each round is a separate pruning, with training in between.
        after_training: prunings take place after the training.
        within_epochs: :meth:`is_due` is called before each training batch, not only before the first of an
            epoch.
        growth_may_follow: weights may be exchanged in the training after the pruning.
        interval: epochs from one pruning to the next.
    """

    rounds_apart: ClassVar[bool] = False
    after_training: ClassVar[bool] = False
    within_epochs: ClassVar[bool] = False
    growth_may_follow: ClassVar[bool] = False

    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.interval = timing.every if self.rounds_apart else 1

    def steps(self, plan: Plan, density: float | None) -> list[tuple[Plan, float | None]]:
        """Return the plan of each pruning and the density after it."""
        if not self.rounds_apart:
            return [(plan, density)]
        one = replace(plan, rounds=1, schedule="exponential")
        return [(one, target) for target in plan.targets(density)]

    def first(self, trained_before: bool = False) -> int:
        """Return the epoch at whose start the first pruning takes place."""
        return self.timing.pre_epochs or 0

    def is_due(self, now: Now) -> bool:
        """Return whether the next pruning is due now, during the training."""
        return not self.after_training and now.epoch >= self._next(now)

    def upcoming(self, now: Now, end: int) -> int:
        """Return the epoch at whose start the next pruning is; ``end`` is the end of the last epoch, -1 if
        unlimited."""
        return end if self.after_training else max(now.epoch, self._next(now))

    def shortfall(self, now: Now, end: int, left: int) -> Shortfall | None:
        """Return what a training that ends at epoch ``end`` lacks for ``left`` more prunings, or None."""
        if self.after_training or left <= 0 or end < 0:
            return None
        first = self.upcoming(now, end)
        needed = first + (left - 1) * self.interval + 1
        if end >= needed:
            return None
        return Shortfall(len(range(first, end, self.interval)), needed - end)

    def end_of_level(self, prunings: int, planned: int, epochs: int) -> int:
        """Return the epoch at which the training after ``prunings`` of ``planned`` ends in the next one.

        ``epochs``, the end of the run, if no further pruning follows.
        """
        if self.after_training or prunings >= planned:
            return epochs
        return min(epochs, self._next(Now(prunings=prunings)))

    def run_epochs(self, requested: int, prunings: int) -> int:
        """Return the epochs of the whole run, of which ``requested`` are requested."""
        return requested

    def _next(self, now: Now) -> int:
        return self.first(now.trained_before)


class AtStart(Moment):
    """All rounds at once, before the training or after ``pre_epochs``."""

    growth_may_follow = True

    def run_epochs(self, requested: int, prunings: int) -> int:
        """Return the requested epochs and those before the pruning."""
        return self.first() + requested


class EveryEpochs(Moment):
    """One round every few epochs, at the start of an epoch."""

    rounds_apart = True

    def first(self, trained_before: bool = False) -> int:
        """Return ``pre_epochs``, or the number of epochs before every further round."""
        if self.timing.pre_epochs is not None:
            return self.timing.pre_epochs
        return 0 if trained_before else self.timing.every + self.timing.rewound_to

    def run_epochs(self, requested: int, prunings: int) -> int:
        """Return the requested epochs, or as many as the rounds need with training after the last."""
        return max(requested, self.first() + prunings * self.interval)

    def _next(self, now: Now) -> int:
        if now.prunings and now.last_pruning is not None:
            return now.last_pruning + self.interval
        return self.first(now.trained_before) + now.prunings * self.interval


class AtEnd(Moment):
    """All rounds at once, after the training."""

    after_training = True


MOMENTS: dict[str, type[Moment]] = {"start": AtStart, "epoch": EveryEpochs, "end": AtEnd}


def settle(when: When, pre_epochs: int, epochs: int, grows: bool) -> tuple[When, int]:
    """Return when a run prunes and how many epochs it requests besides those that :class:`Timing` adds.

    A pruning after ``pre_epochs`` that no epoch follows takes place after all training.

    Args:
        when: as requested.
        pre_epochs: epochs before the first pruning.
        epochs: epochs after it.
        grows: whether weights are exchanged after the pruning.
    """
    if when == "start" and pre_epochs > 0 and epochs == 0 and not grows:
        return "end", pre_epochs
    return when, epochs
