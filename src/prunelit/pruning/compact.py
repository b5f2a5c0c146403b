"""A smaller network: what pruning emptied is cut out of the tensors, so that memory and time are saved.

A unit (a filter of a convolution, a neuron of a linear layer) goes if it emits exactly 0, its bias and
normalisation included, or if the layer that takes it in has no weight left for it. One removal may
allow others, before and behind it. Units whose outputs go several ways, as at a residual sum, stay.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils._pytree import tree_leaves

from prunelit.pruning.masks import attached
from prunelit.pruning.parameters import layer_of
from prunelit.pruning.preserve import modes
from prunelit.pruning.units import Units, obstacle_to_cut, output_units

Kept = dict[str, Tensor]
"""Which units stay, of shape (count,), by the layer's name."""

TOLERANCE = 1e-3
"""Largest change of an output allowed, as a share of the largest output: sums run in another order."""


def compact(network: nn.Module, example: Tensor | tuple[Any, ...]) -> nn.Module:
    """Return a copy of a pruned network without the units that have no effect any more.

    In eval mode it computes the same as ``network``, which stays as it is. Layers keep their names and
    at least one unit each; parameters, BatchNorm statistics and the masks noted on the network are
    cut to size. Layers in groups, and those with a LayerNorm or GroupNorm behind them, keep their width.

    Args:
        network: pruned: weights that were removed are 0. Any module that runs on ``example``.
        example: a batch on the network's device, or a tuple of the forward pass's arguments.

    Raises:
        ValueError: the smaller network does not compute the same, as where a size is written into
            ``forward``; one line.
    """
    inputs = example if isinstance(example, tuple) else (example,)
    small = _copied(network)
    found = output_units(small, lambda: small(*inputs)).values()
    chain = [units for units in found if not obstacle_to_cut(small, units)]
    kept = _kept_units(small, chain)
    for units in chain:
        _cut_outputs(small, units, kept[units.layer])
        _cut_inputs(small, units, kept[units.layer])
    _check_same(network, small, inputs)
    return small


def _copied(network: nn.Module) -> nn.Module:
    """Return a deep copy, also where modules keep tensors that they computed, as old-style weight norm."""
    computed = [v for m in network.modules() for v in vars(m).values() if isinstance(v, Tensor) and v.grad_fn]
    try:
        return copy.deepcopy(network, {id(tensor): tensor.detach().clone() for tensor in computed})
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{type(network).__name__} cannot be copied to be made smaller: {reason}") from error


@torch.no_grad()
def _kept_units(network: nn.Module, chain: list[Units]) -> Kept:
    """Return the units that stay: removed are those that emit 0 or that nothing listens to."""
    taken_from = {units.next: units for units in chain}
    weights = {u.layer: network.get_parameter(u.weight) for u in chain}
    kept = {u.layer: torch.ones(u.count, dtype=torch.bool, device=weights[u.layer].device) for u in chain}
    while True:
        before = dict(kept)
        for units in chain:
            source = taken_from.get(units.layer)
            speaks = _speaks(network, units, source, kept)
            stays = kept[units.layer] & speaks & _is_heard(network, units, kept)
            kept[units.layer] = stays if stays.any() else _first(kept[units.layer])
        if all(torch.equal(kept[name], before[name]) for name in kept):
            return kept


def _speaks(network: nn.Module, units: Units, source: Units | None, kept: Kept) -> Tensor:
    """Return which units emit anything: they have an input that stays, or a bias or normalisation."""
    if source is None:
        weight = units.rows(network.get_parameter(units.weight))
    else:
        weight = _columns(network, source)[kept[source.layer]].movedim(1, 0)
    speaks = weight.flatten(1).ne(0).any(1)
    for name, axis in units.members.items():
        if name != units.weight:
            speaks = speaks | network.get_parameter(name).movedim(axis, 0).reshape(units.count, -1).ne(0).any(
                1
            )
    return speaks


def _is_heard(network: nn.Module, units: Units, kept: Kept) -> Tensor:
    """Return which units the next layer has a weight left for, in a unit of its own that stays."""
    columns = _columns(network, units)
    if units.next in kept:
        columns = columns[:, kept[units.next]]
    return columns.flatten(1).ne(0).any(1)


def _first(mask: Tensor) -> Tensor:
    """Return the mask with the first of its units alone."""
    return mask & (mask.cumsum(0) == 1)


def _columns(network: nn.Module, units: Units) -> Tensor:
    """Return the weight of the next layer as (units of this layer, its own units, ...)."""
    weight: Tensor = network.get_submodule(units.next).weight  # type: ignore[assignment]
    return weight.unflatten(1, (units.count, -1)).movedim(1, 0)


def _cut_outputs(network: nn.Module, units: Units, kept: Tensor) -> None:
    for name, axis in units.members.items():
        _replace(network, name, lambda tensor, axis=axis: tensor.index_select(axis, kept.nonzero()[:, 0]))
        module = network.get_submodule(layer_of(name))
        if isinstance(module, _NormBase):
            module.num_features = int(kept.sum())
            for key in ("running_mean", "running_var"):
                if (statistic := getattr(module, key)) is not None and len(statistic) == len(kept):
                    setattr(module, key, statistic[kept])
    layer = network.get_submodule(units.layer)
    setattr(layer, "out_features" if isinstance(layer, nn.Linear) else "out_channels", int(kept.sum()))


def _cut_inputs(network: nn.Module, units: Units, kept: Tensor) -> None:
    def cut(weight: Tensor) -> Tensor:
        return weight.unflatten(1, (units.count, -1))[:, kept].flatten(1, 2)

    taker = network.get_submodule(units.next)
    _replace(network, f"{units.next}.weight", cut)
    size = taker.weight.shape[1]  # type: ignore[index]
    setattr(taker, "in_features" if isinstance(taker, nn.Linear) else "in_channels", size)


def _replace(network: nn.Module, name: str, cut: Any) -> None:
    """Put the cut parameter, and its mask if one is noted on the network, in place of the whole one."""
    module, leaf = network.get_submodule(layer_of(name)), name.rpartition(".")[2]
    whole = module._parameters[leaf]
    assert whole is not None
    module._parameters[leaf] = nn.Parameter(cut(whole.detach()).clone(), whole.requires_grad)
    masks = attached(network)
    if masks and name in masks:
        masks[name] = cut(masks[name])


@torch.no_grad()
def _check_same(network: nn.Module, small: nn.Module, inputs: tuple[Any, ...]) -> None:
    with modes(network), modes(small):
        expected = network.eval()(*copy.deepcopy(inputs))
        try:
            found = small.eval()(*copy.deepcopy(inputs))
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{type(network).__name__} cannot be made smaller: {reason}") from error
    for a, b in zip(tree_leaves(expected), tree_leaves(found), strict=True):
        if isinstance(a, Tensor) and a.is_floating_point():
            change = float((a - b).abs().max() / a.abs().max().clamp_min(1e-12))
            if not change <= TOLERANCE:
                name = type(network).__name__
                raise ValueError(f"{name} cannot be made smaller: its outputs would change by {change:.1e}")
