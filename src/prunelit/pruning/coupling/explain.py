"""Describe the groups of units of a network, and the layers that stay whole with the reasons."""

from __future__ import annotations

from typing import Any

from torch import nn

from prunelit.pruning.coupling.coupled_units import coupled_units
from prunelit.pruning.coupling.groups import CoupledUnits, Group
from prunelit.pruning.parameters import layer_of


def explain(network: nn.Module, example: Any, cut_normalized: bool = False) -> str:
    """Return a text with the groups of units of ``network`` and, for each layer left whole, why.

    A group is a line with its name (for the first of its parameters), the number of its units and the
    layers that lose a filter, a neuron or a head with each of them; ``inputs of`` are the layers that take
    them in.

    Args:
        network: any module that ``torch.export`` takes; it is left as it was.
        example: a batch of inputs, a tuple of positional arguments, or a ``Call``.
        cut_normalized: whether units that can be cut out, but not masked, count as prunable.

    Raises:
        NotTraced: ``torch.export`` does not take it (a ``ValueError`` of one line).
    """
    return text_of(coupled_units(network, example, cut_normalized))


def text_of(coupled: CoupledUnits) -> str:
    """Return the text of :func:`explain` for groups that have been found."""
    lines = [f"{len(coupled.prunable)} groups of units can be pruned:"]
    lines += [f"  {_line(group)}" for group in coupled.prunable]
    below = [g for g in coupled.groups if g.prunable and not g.exact_when_masked and _widths(g)]
    if below and coupled.cut_normalized:
        lines.append("Of these, the following can be cut out, but not by setting them to 0:")
        lines += [f"  {group.name}: {group.why_not_exact}" for group in below]
    elif below:
        lines.append("Units that can be removed, but not by setting them to 0, stay:")
        lines += [f"  {_line(group)}: {group.why_not_exact}" for group in below]
    whole = [g for g in coupled.groups if not g.prunable and _widths(g)]
    if whole:
        lines.append("Layers that stay whole:")
        lines += [f"  {', '.join(_widths(group))}: {group.why_not}" for group in whole]
    if coupled.not_followed:
        lines.append(f"Operations that are not followed: {', '.join(coupled.not_followed)}")
    return "\n".join(lines)


def _line(group: Group) -> str:
    made = list(dict.fromkeys(layer_of(m.name) or m.name for m in group.members if m.role == "source"))
    taken = list(dict.fromkeys(layer_of(m.name) or m.name for m in group.members if m.role == "sink"))
    inputs = f"; inputs of {', '.join(taken)}" if taken else ""
    return f"{group.name}: {group.units} units of {', '.join(made)}{inputs}"


def _widths(group: Group) -> list[str]:
    """Return the layers whose outputs, and not the places of a kernel or the inputs, are the group's."""
    sources = (m for m in group.members if m.role == "source" and m.axis == 0)
    return list(dict.fromkeys(layer_of(m.name) or m.name for m in sources))
