"""Try a cut on a copy of a network: what cannot be cut because of numbers in its code stays whole."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import chain, combinations
from typing import Any

import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call, num_samples
from prunelit.pruning.coupling.cut import Attribute, attributes_to_fit, cut_units, sizes_in_code
from prunelit.pruning.coupling.groups import CoupledUnits, Group, Kept
from prunelit.pruning.coupling.ledger import Reason
from prunelit.pruning.coupling.narrow_sizes import has_replaced, replace_sizes, sizes_of
from prunelit.pruning.nested import tensors_in
from prunelit.pruning.preserve import modes

TOLERANCE = 1e-3
"""Largest change of an output allowed, as a share of the largest output: sums run in another order."""


MOST_NAMES = 4
"""How many names of sizes are tried in all combinations."""


class DoesNotFit(ValueError):
    """The cut network fails, or computes something else; the message says why."""


@dataclass(frozen=True)
class Cut:
    """A smaller network and what it took.

    Attributes:
        network: the smaller copy.
        kept: the units left in each group that was cut.
        left_whole: the groups that should have been cut and could not be, with the reason.
    """

    network: nn.Module
    kept: Kept
    left_whole: dict[str, Reason]


def cut_what_fits(
    network: nn.Module,
    coupled: CoupledUnits,
    kept: Kept,
    call: Call,
    reference: Callable[[Kept], Any] | None = None,
) -> Cut:
    """Return a copy of ``network`` with as many of the groups in ``kept`` cut as still compute the same.

    Args:
        network: stays as it is.
        coupled: its groups.
        kept: the units to leave in each group.
        call: what both networks are compared on, in eval mode.
        reference: gives the outputs that are expected where some groups are cut; those of ``network``
            if it is left out, whose removed units are then without effect.
    """
    whole = None if reference is not None else outputs(network, call)
    expected = reference or (lambda _: whole)
    errors: dict[str, Reason] = {}

    def attempt(names: Iterable[str]) -> nn.Module | None:
        chosen = {name: kept[name] for name in names}
        try:
            return fitting_copy(network, coupled, chosen, call, expected(chosen))
        except DoesNotFit as error:
            errors.update({name: Reason(str(error)) for name in chosen})
            return None

    def fits(before: list[str], names: list[str]) -> bool:
        return attempt([*before, *names]) is not None

    small = attempt(kept)
    if small is not None:
        return Cut(small, kept, {})
    good: list[str] = []
    for family in _families(network, coupled, kept):
        good += _that_fit(family, partial(fits, list(good)))
    small = attempt(good)
    if small is None:  # cuts that fit one by one and not together
        good, small = [], copied(network)
    failed = {name: errors[name] for name in kept if name not in good}
    return Cut(small, {name: kept[name] for name in good}, failed)


def _that_fit(names: list[str], fits: Callable[[list[str]], bool]) -> list[str]:
    """Return the ``names`` that can be cut, found by bisection."""
    if not names or fits(names):
        return names
    if len(names) == 1:
        return []
    middle = len(names) // 2
    first = _that_fit(names[:middle], fits)
    return first + _that_fit(names[middle:], lambda more: fits([*first, *more]))


def _families(network: nn.Module, coupled: CoupledUnits, kept: Kept) -> list[list[str]]:
    """Return the names of groups by the code that their sizes stand in, those first that stand in none."""
    place = coupled.place
    assert coupled.resolved is not None
    touched: dict[str, set[tuple[str, str]]] = {name: set() for name in kept}
    for literal in coupled.literals:
        groups = place[0, coupled.resolved.unit_of[literal.labels]]
        try:
            kind = type(network.get_submodule(literal.module)).__name__
        except AttributeError:
            kind = literal.module
        for number in set(groups[groups >= 0].tolist()):
            if (name := coupled.groups[number].name) in touched:
                touched[name].add((kind, literal.operation))
    families: dict[Any, list[str]] = {}
    for name, code in touched.items():
        families.setdefault(tuple(sorted(code)), []).append(name)
    return [families[key] for key in sorted(families)]


def fitting_copy(
    network: nn.Module, coupled: CoupledUnits, kept: Kept, call: Call, expected: Any
) -> nn.Module:
    """Return a copy that is cut and computes ``expected``; of sizes kept by modules it finds which to change.

    Raises:
        DoesNotFit: there is no choice of sizes with which it does.
    """
    choices = list(_choices(network, attributes_to_fit(network, coupled, kept)))
    in_code = sizes_in_code(network, coupled, kept)
    reason = ""
    for choice, sizes in [*((each, {}) for each in choices), *((each, in_code) for each in choices[::-1])]:
        small = copied(network)
        cut_units(small, coupled, kept)
        for attribute in choice:
            setattr(small.get_submodule(attribute.module), attribute.name, attribute.new)
        for name, replaced in sizes.items():
            replace_sizes(small.get_submodule(name), replaced)
        try:
            _check_same(expected, outputs(small, call))
            if sizes:
                _check_larger_batch(small, call)
        except Exception as error:  # the network's own code may raise anything
            reason = reason or " ".join(f"{error}".split())[:160]
            continue
        for name in sizes:
            if not has_replaced(small.get_submodule(name)):
                replace_sizes(small.get_submodule(name), sizes_of(network.get_submodule(name)))
        return small
    raise DoesNotFit(f"without some of its units the network fails: {reason}")


def _choices(network: nn.Module, attributes: list[Attribute]) -> Iterable[list[Attribute]]:
    """Return which sizes may change: all, or only some names in some classes."""
    kinds = [(type(network.get_submodule(a.module)).__name__, a.name) for a in attributes]
    names = sorted(set(kinds))
    if len(names) > MOST_NAMES:
        return [attributes, []]
    subsets = chain.from_iterable(combinations(names, count) for count in range(len(names), -1, -1))
    return [[a for a, kind in zip(attributes, kinds, strict=True) if kind in chosen] for chosen in subsets]


@torch.no_grad()
def outputs(network: nn.Module, call: Call) -> list[Tensor]:
    """Return all tensors that ``network`` returns in eval mode, and leave it as it is."""
    with modes(network):
        return tensors_in(copy.deepcopy(call).run(network.eval()))


def _check_same(expected: list[Tensor], found: list[Tensor]) -> None:
    if len(expected) != len(found):
        raise DoesNotFit("it returns another number of tensors")
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape:
            raise DoesNotFit(f"it returns {tuple(b.shape)} instead of {tuple(a.shape)}")
        if a.is_floating_point():
            change = float((a - b).abs().max() / a.abs().max().clamp_min(1e-12)) if a.numel() else 0.0
            if not change <= TOLERANCE:
                raise DoesNotFit(f"its outputs change by {change:.1e}")


def _check_larger_batch(network: nn.Module, call: Call) -> None:
    """Raise if the network fails with one more input, as where a number also counts the inputs."""
    count = num_samples((call.inputs, dict(call.keywords)))

    def one_more(value: Any) -> Any:
        batched = isinstance(value, Tensor) and value.ndim and len(value) == count
        return torch.cat([value, value[:1]]) if batched else value

    larger = outputs(network, call.map(one_more))
    for a, b in zip(outputs(network, call), larger, strict=True):
        if a.ndim and len(b) == count + 1:
            _check_same([a], [b[:-1]])


def copied(network: nn.Module) -> nn.Module:
    """Return a deep copy, also where modules keep tensors that they computed, as old-style weight norm."""
    computed = [v for m in network.modules() for v in vars(m).values() if isinstance(v, Tensor) and v.grad_fn]
    try:
        return copy.deepcopy(network, {id(tensor): tensor.detach().clone() for tensor in computed})
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{type(network).__name__} cannot be copied to be made smaller: {reason}") from error


@torch.no_grad()
def masked_copy(network: nn.Module, groups: Iterable[Group], kept: Mapping[str, Tensor]) -> nn.Module:
    """Return a copy with all parameters of the units that are not ``kept`` at 0."""
    masked = copied(network)
    parameters = dict(masked.named_parameters())
    for group in groups:
        if group.name in kept:
            for member in group.members:
                if member.name in parameters:
                    gone = (~member.along(kept[group.name].cpu())).nonzero()[:, 0]
                    tensor = parameters[member.name]
                    tensor.index_fill_(member.axis, gone.to(tensor.device), 0)
    return masked
