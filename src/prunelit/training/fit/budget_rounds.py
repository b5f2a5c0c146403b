"""What each pruning of a training is to reach, with a budget and without."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from prunelit.budget import Budget
from prunelit.pruning.plan import Plan
from prunelit.pruning.schedules import SCHEDULES
from prunelit.request import BadRequest
from prunelit.training.fit.early_end import Steps
from prunelit.training.fit.timing import Moment


def steps_to(budget: Budget | None, density: float | None, plan: Plan, moment: Moment) -> Steps:
    """Return the plan of each pruning, and the density or the share of the budget's cost after it.

    With a latency the shares are None: they are known once the dense network has been timed.

    Raises:
        BadRequest: the number of rounds that a latency takes is not known before.
    """
    if budget is None or budget.quantity != "latency":
        return moment.steps(plan, density if budget is None else budget.share)
    if plan.schedule == "constant" and moment.rounds_apart:
        why = "how many rounds a latency takes is not known in advance"
        raise BadRequest("schedule", plan.schedule, ", ".join(SCHEDULES), why)
    return moment.steps(plan, None)


def goal_of(
    budget: Budget | None, share: float | None, plan: Plan, number: int, count: int
) -> float | Budget | None:
    """Return the density or the budget of a pruning.

    Args:
        budget: of the last pruning; None: ``share`` is a density.
        share: after this pruning, of :func:`steps_to`.
        plan: of all prunings; its schedule determines how a latency falls.
        number: of this pruning, from 1.
        count: of all prunings.
    """
    if budget is None:
        return share
    if budget.quantity == "latency":
        schedule = SCHEDULES.get(plan.schedule)
        return budget if schedule is None else replace(budget, in_round=partial(schedule, number, count))
    return budget if share is None else replace(budget, share=share)
