"""Which units to keep so that a network costs no more than a budget allows, and as nearly that as it can."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import nn

from prunelit.budget import Budget
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.competition import Competition
from prunelit.pruning.coupling.cost_of_widths import Costs, widths_of
from prunelit.pruning.coupling.latency_costs import LatencyCosts
from prunelit.pruning.masks import Masks, Scores, count_all
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.ties import Ties
from prunelit.request import BadRequest

ATTEMPTS = 6
"""How many times the network is cut and counted to correct the predicted cost."""


class BudgetTooSmall(BadRequest):
    """The network costs more with one unit in each group."""

    shows_in_the_run = True


@dataclass(frozen=True)
class Latency:
    """Milliseconds of one input: the dense network's, and those predicted and measured for the smaller."""

    dense: float
    predicted: float
    measured: float


@dataclass(frozen=True)
class Spending:
    """A budget, what the network costs, and the groups that compete for it."""

    budget: Budget
    costs: Costs
    competing: Competition

    def share_of(self, kept: Masks) -> float:
        """Return the predicted share of the dense network's cost with these units."""
        return min(1.0, self.costs.of(widths_of(kept)) / self.costs.dense)

    def latency(self, kept: Masks) -> Latency | None:
        """Return the latency with these units, if that is the budget."""
        if not isinstance(self.costs, LatencyCosts):
            return None
        return Latency(self.costs.dense, self.costs.predicted(kept), self.costs.measure(kept))

    def units(
        self, share: float, plan: Plan, scores: Scores, alive: Masks, ties: Ties | None = None
    ) -> Masks:
        """Return the units to keep so that at most ``share`` of the dense network's cost is left."""
        budget = replace(self.budget, share=share)
        return units_within(budget, self.costs, self.competing, plan, scores, alive, ties)


def spending_of(
    network: nn.Module, competing: Competition, objective: Objective | None, budget: Budget
) -> Spending:
    """Return how ``budget`` is spent on ``network``.

    Raises:
        BadRequest: its multiply-accumulates cannot be counted, or no layer can be timed.
    """
    assert objective is not None
    call = Call.of(objective.example(network))
    try:
        if budget.quantity == "latency":
            latency = LatencyCosts(network, competing.coupled, call)
            share = min(1.0, budget.given[1] / latency.dense)
            share = budget.in_round(share) if budget.in_round else share
            return Spending(replace(budget, share=share), latency, competing)
        return Spending(budget, Costs(network, competing.coupled, call, budget.quantity), competing)
    except ValueError as error:
        raise BadRequest(*budget.given, "params instead", str(error)) from error


def units_within(
    budget: Budget,
    costs: Costs,
    competing: Competition,
    plan: Plan,
    scores: Scores,
    alive: Masks,
    ties: Ties | None = None,
) -> Masks:
    """Return the units that are kept: as many units of highest score as the budget allows.

    First the largest number of units is found whose cost is within the budget, chosen as ``plan`` chooses
    that number: of all groups together with scope ``global``, the same share of each with ``layer``, the same
    share of all groups of a kind with ``isomorphic``. Then single units are added, those of highest score
    first, until no unit of any group fits.

    Args:
        budget: what the network may cost.
        costs: of the network.
        competing: the groups, and the multiples that widths are rounded to.
        plan: how units compete.
        scores: one for each unit, by the group's name.
        alive: the units that are left.
        ties: notes where scores do not decide.

    Raises:
        BudgetTooSmall: one unit of each group already costs more.
    """
    limit = budget.share * costs.dense * (1 + 1e-9)
    smallest = competing.choose(plan, scores, _fewest(plan, alive) / count_all(scores), alive)
    aim, best, most = limit, smallest, -1.0
    for _ in range(ATTEMPTS):
        kept = _predicted(aim, costs, competing, plan, scores, alive, ties) or smallest
        cost = costs.measure(kept)
        if most < cost <= limit:
            best, most = kept, cost
        if cost <= limit < cost + _least(costs, kept, alive):
            break
        again = _predicted(limit, costs, competing, plan, scores, alive) or smallest
        if not _same(again, kept):
            aim = limit  # the measured cost has corrected the prediction
        elif cost <= limit:
            break
        else:
            aim -= cost - limit
    if most < 0:
        raise _too_small(budget, costs, costs.measure(smallest))
    return best


def _too_small(budget: Budget, costs: Costs, cost: float) -> BudgetTooSmall:
    """Return the error for a budget below the ``cost`` of the units that have to stay."""
    share = cost / costs.dense
    if budget.quantity == "latency":
        why = f"{cost:.3g} of the dense network's {costs.dense:.3g} ms are left with the fewest units"
        return BudgetTooSmall(*budget.given, f"at least {1.05 * cost:.3g}", why)
    what = "multiply-accumulates" if budget.quantity == "flops" else "parameters"
    allowed = f"at most {0.999 / share:.3f}" if budget.key == "speedup" else f"at least {share + 5e-5:.4f}"
    return BudgetTooSmall(*budget.given, allowed, f"at least {share:.2%} of the {what} have to stay")


def _fewest(plan: Plan, alive: Masks) -> int:
    """Return the number of units that have to stay."""
    return sum(min(plan.keep_at_least, int(mask.sum())) for mask in alive.values())


def _predicted(
    limit: float,
    costs: Costs,
    competing: Competition,
    plan: Plan,
    scores: Scores,
    alive: Masks,
    ties: Ties | None = None,
) -> Masks | None:
    """Return the units whose predicted cost is within the limit, None if there are none."""
    total = count_all(scores)

    def choose(count: int, ties: Ties | None = None) -> Masks:
        return competing.choose(plan, scores, count / total, alive, ties)

    def fits(kept: Masks) -> bool:
        return costs.of(widths_of(kept)) <= limit

    low, high = _fewest(plan, alive), total + 1  # low fits, high does not
    if not fits(choose(low)):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(choose(middle)) else (low, middle)
    kept = {name: mask.clone() for name, mask in choose(low, ties).items()}
    _fill(kept, costs, competing, _signed(plan, scores), alive, fits)
    return kept


def _fill(
    kept: Masks,
    costs: Costs,
    competing: Competition,
    scores: Scores,
    alive: Masks,
    fits: Callable[[Masks], bool],
) -> None:
    """Add units in the order of their scores, the highest first, until none fits."""
    queue: list[tuple[float, int, str, list[int]]] = []
    rows = {name: _waiting(scores, kept, alive, name, competing.step(name)) for name in kept}
    for place, (name, row) in enumerate(rows.items()):
        if (first := next(row, None)) is not None:
            queue.append((-first[0], place, name, first[1]))
    heapq.heapify(queue)
    while queue:
        _, place, name, units = heapq.heappop(queue)
        kept[name][units] = True
        if not fits(kept):
            kept[name][units] = False  # its units cost the same: none of this group fits any more
            continue
        if (following := next(rows[name], None)) is not None:
            heapq.heappush(queue, (-following[0], place, name, following[1]))


def _waiting(
    scores: Scores, kept: Masks, alive: Masks, name: str, step: int
) -> Iterator[tuple[float, list[int]]]:
    """Yield the score and the units of what may be added to a group next, ``step`` units at a time."""
    outside = alive[name] & ~kept[name]
    order = scores[name].double().masked_fill(~outside, -torch.inf).argsort(descending=True, stable=True)
    units = order[: int(outside.sum())].tolist()
    for start in range(0, len(units) - step + 1, step):
        chosen = units[start : start + step]
        yield float(scores[name][chosen[0]]), chosen


def _signed(plan: Plan, scores: Scores) -> Scores:
    return {name: -score for name, score in scores.items()} if plan.invert else scores


def _least(costs: Costs, kept: Masks, alive: Masks) -> float:
    """Return the predicted cost of one more unit of the group whose units cost least."""
    widths = widths_of(kept)
    now = costs.of(widths)
    more = [
        costs.of({**widths, name: widths[name] + 1}) - now
        for name in kept
        if widths[name] < int(alive[name].sum())
    ]
    return min(more, default=float("inf"))


def _same(a: Masks, b: Masks) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)
