"""``prune(network, criterion, density)``: compute scores and masks, in one round or several."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

from torch import nn

from prunelit.budget import Budget
from prunelit.pruning.amount_checks import check_call, check_minimum, check_network, check_normalized
from prunelit.pruning.checked_scores import checked_scores
from prunelit.pruning.coupling.competition import Competition, competition
from prunelit.pruning.coupling.within_budget import Latency, Spending, spending_of
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.doubts import Doubts, warn_of_dense
from prunelit.pruning.earlier_masks import all_masked, starting_masks
from prunelit.pruning.masks import (
    Masks,
    Scores,
    apply_masks,
    attach,
    count_all,
    count_kept,
    density_of,
    shuffle_within_layers,
)
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection
from prunelit.pruning.plan import Plan
from prunelit.pruning.preserve import preserved, random_state
from prunelit.pruning.reset import reset_parameters
from prunelit.pruning.ties import Ties
from prunelit.pruning.units import Groups


@dataclass(frozen=True)
class Outcome:
    """The result of pruning: final masks, the scores of the last round, the density after each round."""

    masks: Masks
    scores: Scores
    densities: list[float] = field(default_factory=list)
    latency: Latency | None = None

    @property
    def score_moments(self) -> dict[str, tuple[float, float]]:
        """Mean and variance (of a population) of each parameter's scores in the last round."""
        doubles = {name: score.double() for name, score in self.scores.items()}
        return {name: (float(s.mean()), float(s.var(correction=0))) for name, s in doubles.items()}


def prune(
    network: nn.Module,
    criterion: Criterion,
    density: float | Budget | None,
    *,
    selection: Selection = Selection(),
    plan: Plan = Plan(),
    objective: Objective | None = None,
    seed: int = 0,
    agree: Callable[[Masks], Masks] | None = None,
    reports: Collection[str] = ("dense", "density"),
) -> Outcome:
    """Prune ``network`` in place to exactly ``round(density * n)`` of its ``n`` prunable parameters.

    A network that was pruned before keeps its masks, those outside ``selection`` too: they only
    shrink. Apart from the pruned weights, now 0, nothing changes: the other weights (unless
    ``plan.reinitialize``), gradients, buffers, modes and the random state are as before, and if
    anything raises, all of it is.

    With ``selection.granularity`` "unit" whole units are removed from all parameters that they have a part
    in. ``density`` is then the share of units: of each group with ``plan.scope`` "layer", of all groups
    together with "global", of all groups of one kind with "isomorphic". At least one unit of each group
    stays. :func:`prunelit.explain` says which groups there are. The objective needs an example input.

    A criterion of whole filters keeps ``round(density * units)`` units of each layer that it prunes, whatever
    ``plan.scope``, unless it compares units across layers and whole units are removed. Biases and
    normalisation are prunable then, whatever ``selection``.

    Args:
        network: any module; parameters are named as in ``named_parameters()``.
        criterion: computes the scores.
        density: kept share of the prunable parameters, in [0, 1]; a ``Budget`` removes whole units until the
            network costs no more, whatever ``selection.granularity``; None: as ``plan`` decides.
        selection: what is prunable.
        plan: rounds, schedule, scope and what follows.
        objective: batches, loss and example input; some criteria need none.
        seed: of the random state in which scores are computed.
        agree: makes the final masks the same on several processes.
        reports: ``dense`` warns of weights that are not prunable, ``density`` where whole units miss the
            density; a caller that prunes in several steps requests each once.

    Raises:
        BadRequest: an argument of a wrong type, a density out of range, or arguments that contradict.
        ValueError: the criterion needs an objective and there is none.
        NonFiniteScores: the criterion gave NaN or infinity.
        UndecidedScores: all scores are equal.

    Warns:
        PruningWarning: weights stay dense, ties decide, layers end empty, or filters cannot be cut out.
    """
    check_call(criterion, density, selection, plan, objective, seed)
    budget = None
    if isinstance(density, Budget):
        budget, density = density, density.share
        selection = replace(selection, granularity="unit")
    if criterion.unit == "filter":
        selection, plan = _of_filters(criterion, selection, plan)
    parameters = selection.of(network)
    check_network(network, parameters, criterion, selection, plan, None if budget else density)
    criterion.check(objective)
    check_normalized(selection, criterion, plan.rounds)
    start = starting_masks(network, parameters)
    if "dense" in reports:
        warn_of_dense(network, selection)
    work = _Rounds(network, criterion, parameters, objective, plan, start)
    with random_state(seed):
        changes = budget is not None or _changes_values(criterion, plan, density, start)
        with preserved(network, parameters.values(), changes):
            work.execute(density, budget, selection)
        masks, latency = work.final_masks(agree)
        if plan.reinitialize:
            reset_parameters(network)
    assert count_all(masks) == count_all(parameters)
    attach(network, masks)
    apply_masks(*all_masked(network))
    if not plan.reinitialize:
        criterion.adjust(network, masks)
    reached = density if "density" in reports and budget is None else None
    work.doubts.warn(work.scores, reached, start, masks)
    return Outcome(masks, work.scores, work.densities, latency)


def _of_filters(criterion: Criterion, selection: Selection, plan: Plan) -> tuple[Selection, Plan]:
    """Return what a criterion of whole filters prunes, and how they compete."""
    free = selection.granularity == "unit" and criterion.across_layers
    selection = replace(selection, bias=True, norm=True)
    scope = plan.scope if free else "layer"
    return selection, replace(plan, scope=scope, pattern=None, layer_densities=None)


def _changes_values(criterion: Criterion, plan: Plan, density: float | None, start: Masks) -> bool:
    """Return whether scoring may change values of the network, which have to be restored then."""
    is_single = len(plan.targets(density, density_of(start))) == 1
    return not (is_single and _keeps_all(start) and criterion.only_reads_weights())


class _Rounds:
    """The rounds of one pruning: score, choose, mask.

    Attributes:
        masks: after the last round; ``start`` before the first.
        scores: of the last round.
        densities: after each round.
        groups: what competes instead of single weights, if anything.
        spending: how a budget is spent, if there is one.
        doubts: what the scores did not decide.
    """

    def __init__(
        self,
        network: nn.Module,
        criterion: Criterion,
        parameters: Parameters,
        objective: Objective | None,
        plan: Plan,
        start: Masks,
    ) -> None:
        self.network, self.criterion = network, criterion
        self.parameters, self.objective = parameters, objective
        self.plan, self.start, self.masks = plan, start, start
        self.scores, self.densities = Scores(), list[float]()
        self.groups: Groups | Competition | None = None
        self.spending: Spending | None = None

    def _compete_by_unit(self, budget: Budget | None, cut_normalized: bool) -> None:
        """Let whole units compete, within ``budget`` if there is one."""
        self.groups = competition(
            self.network, self.criterion, self.parameters, self.objective, self.plan, cut_normalized
        )
        self.plan = replace(self.plan, keep_at_least=max(1, self.plan.keep_at_least))
        if budget is not None:
            self.spending = spending_of(self.network, self.groups, self.objective, budget)

    def execute(self, density: float | None, budget: Budget | None, selection: Selection) -> None:
        """Execute all rounds, until ``density`` or the share of ``budget`` is left."""
        if selection.granularity == "unit":
            self._compete_by_unit(budget, selection.cut_normalized)
        else:
            self.plan.check_weights()
            self.groups = self.criterion.groups(self.network, self.parameters, self.objective)
        plan = self.plan
        if self.groups is not None and self.spending is None and plan.keep_at_least > 1:
            check_minimum(plan, density, self.groups.alive(self.start), "units")
        self.doubts = Doubts(
            self.network, self.criterion, plan.scope, plan.train_mode, plan.shuffle, self.groups
        )
        self.network.train(plan.train_mode)
        targets, may_skip = self._targets(density), self.groups is None and self.spending is None
        while targets:
            self._apply_masks()
            if may_skip and (done := self._skip_scores(targets[:-1])):
                targets = targets[done:]
                self._apply_masks()
            else:
                may_skip = False
            before, target = self.masks, targets.pop(0)
            self.masks = self._by_scores(target)
            known = self.plan.number_kept(target, count_all(before)) if self.groups is None else None
            kept = count_kept(self.masks) if known is None else min(known, count_kept(before))
            self.densities.append(kept / count_all(before))

    def final_masks(self, agree: Callable[[Masks], Masks] | None) -> tuple[Masks, Latency | None]:
        """Return the masks after the last round, and the latency that a budget of latency reached.

        The masks are shuffled within layers if the plan requests it. ``agree`` makes them the same on several
        processes.
        """
        masks = {name: mask.contiguous() for name, mask in self.masks.items()}
        latency = None
        if self.spending is not None:
            latency = self.spending.latency(self.spending.competing.alive(masks))
        if self.plan.shuffle:
            masks = _shuffled(masks, self.start, self.groups)
        return agree(masks) if agree else masks, latency

    def _apply_masks(self) -> None:
        if not (self.masks is self.start and _keeps_all(self.start)):
            apply_masks(self.parameters, self.masks)

    def _by_scores(self, target: float | None) -> Masks:
        """Compute the scores, and return the masks that they give."""
        self.scores = checked_scores(
            self.criterion, self.network, self.parameters, self.objective, self.scores
        )
        ties = Ties()
        chosen = _choose(self.plan, self.scores, target, self.masks, self.groups, ties, self.spending)
        self.doubts.add(ties, self.masks)
        return chosen

    def _skip_scores(self, densities: list[float | None]) -> int:
        """Do as many rounds as the criterion can without scores; return how many."""
        numbers, all_of_them = list[int](), count_all(self.masks)
        last = count_kept(self.masks)
        for density in densities:
            number = self.plan.number_kept(density, all_of_them)
            if number is None or number < 1:
                break
            last = min(last, number)
            numbers.append(last)
        if not numbers:
            return 0
        self.masks, done = self.criterion.keep_highest(
            self.network, self.parameters, self.objective, numbers, self.masks
        )
        self.densities += [number / all_of_them for number in numbers[:done]]
        return done

    def _targets(self, density: float | None) -> list[float | None]:
        """Return the density, or the share of the budget's cost, after each round."""
        if self.spending is None:
            return self.plan.targets(density, density_of(self.start))
        alive = self.spending.competing.alive(self.start)
        return self.plan.targets(self.spending.budget.share, self.spending.share_of(alive))


def _keeps_all(masks: Masks) -> bool:
    return count_kept(masks) == count_all(masks)


def _choose(
    plan: Plan,
    scores: Scores,
    density: float | None,
    previous: Masks,
    groups: Groups | Competition | None,
    ties: Ties,
    spending: Spending | None,
) -> Masks:
    """Return the masks of one round, by single weights or by groups."""
    if groups is None:
        return plan.masks(scores, density, previous, ties)
    competing = groups.gather(scores)
    alive = groups.alive(previous)
    if spending is not None and density is not None:
        return groups.spread(spending.units(density, plan, competing, alive, ties), previous)
    if isinstance(groups, Competition):
        return groups.spread(groups.choose(plan, competing, density, alive, ties), previous)
    kept = plan.masks(competing, density, alive, ties) if competing else {}
    return groups.spread(kept, previous)


def _shuffled(masks: Masks, start: Masks, groups: Groups | Competition | None) -> Masks:
    """Return masks that keep as much of each layer elsewhere."""
    if groups is None:
        return shuffle_within_layers(masks, among=start)
    return groups.spread(shuffle_within_layers(groups.alive(masks), among=groups.alive(start)), start)
