"""Check what a pruning is asked for before it begins."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from numbers import Real
from typing import Any

from torch import nn

from prunelit.amount import SETS_DENSITY, sets_density
from prunelit.budget import Budget
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.earlier_masks import starting_masks
from prunelit.pruning.masks import Masks, count_all, num_kept
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Parameters, Selection, abridged
from prunelit.pruning.plan import Plan
from prunelit.request import BadRequest

Asked = tuple[str, float]
"""The key and the value from which a density comes, for messages."""


def check_density(density: float, n: int, asked: Asked | None = None) -> None:
    """Raise BadRequest unless ``density`` is in [0, 1] and keeps at least one of ``n`` parameters.

    ``asked`` is the key and value from which the density comes, for the message.
    """
    key, value = asked or ("density", density)
    if not 0 <= density <= 1:
        raise BadRequest(key, value, "a density from 0 to 1")
    if num_kept(density, n) < 1:
        raise BadRequest(key, value, f"one that keeps at least 1 of the {n} prunable parameters")


def check_minimum(plan: Plan, density: float | None, alive: Masks, what: str = "parameters") -> None:
    """Raise BadRequest if ``plan.keep_at_least`` of each tensor are more than ``density`` keeps of all.

    Args:
        plan: its ``keep_at_least`` is the minimum.
        density: the share to keep; None: the plan decides, and any minimum can be kept.
        alive: what is kept so far. A tensor with less than the minimum is kept whole.
        what: what the masks are of, for the message.
    """
    if density is None or not plan.keep_at_least:
        return
    sizes, n = [int(mask.sum()) for mask in alive.values()], count_all(alive)
    kept = min(sum(sizes), num_kept(density, n, plan.rounding))

    def at_least(minimum: int) -> int:
        return sum(min(minimum, size) for size in sizes)

    needed = at_least(plan.keep_at_least)
    if needed <= kept:
        return
    most = kept // len(sizes)
    while at_least(most + 1) <= kept:
        most += 1
    share = min(1.0, math.ceil(1e4 * needed / n) / 1e4)
    why = f"the minimum is {needed} {what} in all, and a density of {density:.4g} keeps {kept} of {n}"
    raise BadRequest(
        "keep_at_least", plan.keep_at_least, f"at most {most}, or the density at least {share:.4g}", why
    )


def check_names(densities: Mapping[str, float], network: nn.Module, parameters: Collection[str]) -> None:
    """Raise BadRequest if a prunable parameter has no density, or a name belongs to no parameter."""
    if missing := [name for name in parameters if name not in densities]:
        why = f"{abridged(missing)} of {type(network).__name__} {'has' if len(missing) == 1 else 'have'} none"
        given = abridged([f"{name}: {density:.4g}" for name, density in densities.items()])
        raise BadRequest("layer_densities", f"{{{given}}}", "a density for each prunable parameter", why)
    known = {name for name, _ in network.named_parameters(remove_duplicate=False)}
    for name, density in densities.items():
        if name not in known:
            allowed = f"densities of {abridged(list(parameters))}"
            raise BadRequest(
                "layer_densities", f"{{{name}: {density:.4g}}}", allowed, "there is no such parameter"
            )


def check_network(
    network: nn.Module,
    parameters: Parameters,
    criterion: Criterion,
    selection: Selection,
    plan: Plan,
    density: float | None,
    asked: Asked | None = None,
) -> None:
    """Raise BadRequest if ``network`` cannot be pruned to ``density``, or as ``plan`` decides."""
    if density is not None:
        check_density(density, count_all(parameters), asked)
    if plan.layer_densities is not None:
        check_names(plan.layer_densities, network, parameters)
    if selection.granularity == "weight" and criterion.unit == "weight":
        check_minimum(plan, density, starting_masks(network, parameters))


def check_decided(plan: Plan, key: str, value: object) -> None:
    """Raise BadRequest unless either an amount, the ``value`` of ``key``, is given or ``plan`` decides."""
    if value is None:
        if not plan.decides_density:
            raise BadRequest(key, None, "a number", "nothing else determines how much is kept")
        return
    for name in (*SETS_DENSITY, "threshold"):
        if (other := getattr(plan, name, None)) is not None:
            given = f"{name} is given too" if name == "layer_densities" else f"{name}={other} is given too"
            raise BadRequest(key, value, "left out (null)", f"{given} and determines what is kept")


def check_call(
    criterion: Criterion,
    density: float | Budget | None,
    selection: Selection,
    plan: Plan,
    objective: Objective | None,
    seed: int,
) -> None:
    """Raise BadRequest for wrong arguments of :func:`prunelit.prune`, whatever the network."""
    check_arguments(
        criterion=criterion, density=density, selection=selection, plan=plan, objective=objective, seed=seed
    )
    if criterion.unit == "filter" and sets_density(vars(plan)):
        key = "layer_densities" if plan.pattern is None else "pattern"
        raise BadRequest(key, getattr(plan, key), "null", "whole filters are pruned")
    check_decided(plan, "density", density)


def check_arguments(**arguments: Any) -> None:
    """Raise BadRequest for the first argument of :func:`prunelit.prune` or ``Pruning`` of a wrong type."""
    for name, value in arguments.items():
        kind, allowed = KINDS[name]
        is_number = name in ("density", "seed")
        if not isinstance(value, kind) or (is_number and type(value) is bool):
            raise BadRequest(name, repr(value) if is_number and isinstance(value, str) else value, allowed)


KINDS: dict[str, tuple[Any, str]] = {
    "criterion": (Criterion, "a criterion instance, such as prunelit.Mag()"),
    "density": ((Real, Budget, type(None)), "a number from 0 to 1, a Budget, or None where the plan decides"),
    "selection": (Selection, "a Selection"),
    "plan": (Plan, "a Plan"),
    "objective": ((Objective, type(None)), "an Objective, or None"),
    "seed": (int, "an integer"),
    "network": (str, "the dotted name of a submodule"),
}
"""The type of each argument, and what a message says about it."""


def check_normalized(selection: Selection, criterion: Criterion, rounds: int) -> None:
    """Raise BadRequest if scores would be computed of a network whose removed units still count in means."""
    if selection.cut_normalized and rounds > 1 and not criterion.only_reads_weights():
        name = type(criterion).__name__
        why = f"in later rounds of {name}, removed units would still take part in normalizations as zeros"
        raise BadRequest("cut_normalized", True, "false, or one round", why)
