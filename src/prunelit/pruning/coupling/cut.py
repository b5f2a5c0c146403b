"""Cut units out of a network: its parameters, statistics and masks, and the sizes that its modules store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from prunelit.pruning.coupling.groups import CoupledUnits
from prunelit.pruning.coupling.narrow_attention import NarrowAttention
from prunelit.pruning.coupling.narrow_sizes import Size, sizes_of, with_further
from prunelit.pruning.coupling.rules.convolutions import whole_groups_go
from prunelit.pruning.masks import attached

FITTED = (nn.Linear, _ConvNd, _NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.MultiheadAttention)
"""Modules whose sizes follow from their tensors."""


@dataclass(frozen=True)
class Attribute:
    """A size that a module stores under a name, and its new value."""

    module: str
    name: str
    old: Any
    new: Any


@torch.no_grad()
def cut_units(network: nn.Module, coupled: CoupledUnits, kept: Mapping[str, Tensor]) -> None:
    """Keep only the units ``kept`` of the groups named there, and update the sizes of torch's modules."""
    stays = positions_kept(coupled, kept)
    axes: dict[str, dict[int, Tensor]] = {}
    for (name, axis), mask in stays.items():
        if not bool(mask.all()):
            axes.setdefault(name, {})[axis] = mask.nonzero()[:, 0]
    sizes = {name: tuple(p.shape) for name, p in network.named_parameters(remove_duplicate=False)}
    replaced = _replaced(network, axes)
    for name, module in network.named_modules():
        if any(
            id(tensor) in replaced for tensor in (*module._parameters.values(), *module._buffers.values())
        ):
            _fit(module, sizes.get(f"{name}.weight".lstrip("."), ()))
    for module in network.modules():
        if isinstance(module, nn.MultiheadAttention):
            _fit_attention(module)
    masks = attached(network)
    for name in list(masks or ()):
        assert masks is not None
        for axis, places in axes.get(name, {}).items():
            masks[name] = masks[name].index_select(axis, places.to(masks[name].device))


def positions_kept(coupled: CoupledUnits, kept: Mapping[str, Tensor]) -> dict[tuple[str, int], Tensor]:
    """Return which positions along each axis of a parameter stay, for the axes of the groups in ``kept``."""
    stays: dict[tuple[str, int], Tensor] = {}
    for group in coupled.groups:
        if group.name in kept:
            for member in group.members:
                along = member.along(kept[group.name].cpu())
                key = member.name, member.axis
                stays[key] = stays[key] & along if key in stays else along
    return stays


def _replaced(network: nn.Module, axes: Mapping[str, Mapping[int, Tensor]]) -> set[int]:
    """Replace whole tensors by cut ones, shared ones everywhere; return the ids of the new tensors."""
    named = dict((*network.named_parameters(), *network.named_buffers()))
    new: dict[int, Tensor] = {}
    for name, places in axes.items():
        whole = named[name]
        tensor = whole.detach()
        for axis, positions in places.items():
            tensor = tensor.index_select(axis, positions.to(tensor.device))
        if isinstance(whole, nn.Parameter):
            tensor = nn.Parameter(tensor.clone(), whole.requires_grad)
        new[id(whole)] = tensor
    for module in network.modules():
        for held in (module._parameters, module._buffers):
            for leaf in held:
                if id(held[leaf]) in new:
                    held[leaf] = new[id(held[leaf])]  # type: ignore[assignment]
    return {id(tensor) for tensor in new.values()}


def _fit(module: Any, weight_shape: tuple[int, ...]) -> None:
    """Set the sizes of a module of torch to the sizes of its tensors."""
    weight: Any = getattr(module, "weight", None)
    if isinstance(module, nn.Linear):
        module.out_features, module.in_features = weight.shape
    elif isinstance(module, _ConvNd):
        _fit_convolution(module, weight.shape, weight_shape)
    elif isinstance(module, _NormBase):
        statistics: Any = module.running_mean
        module.num_features = len(statistics if weight is None else weight)
    elif isinstance(module, nn.LayerNorm | nn.RMSNorm):
        module.normalized_shape = tuple(weight.shape)
    elif isinstance(module, nn.GroupNorm):
        if module.num_groups > 1:
            module.num_groups = module.num_groups * len(weight) // module.num_channels
        module.num_channels = len(weight)
    elif isinstance(module, nn.PReLU):
        module.num_parameters = len(weight)
    elif isinstance(module, nn.Embedding):
        module.num_embeddings, module.embedding_dim = weight.shape


def _fit_attention(module: nn.MultiheadAttention) -> None:
    """Set the widths of an attention, and replace its class if its heads no longer fill ``embed_dim``."""
    heads, module.embed_dim = module.num_heads * module.head_dim, module.out_proj.out_features
    for name in "kv":
        weight = getattr(module, f"{name}_proj_weight")
        weight = module.in_proj_weight if weight is None else weight
        setattr(module, f"{name}dim", weight.shape[1])
    if not heads == module.out_proj.in_features == module.embed_dim:
        NarrowAttention.narrow(module)


def _fit_convolution(module: Any, shape: tuple[int, ...], before: tuple[int, ...]) -> None:
    transposed = isinstance(module, _ConvTransposeNd)
    if module.groups > 1 and before and (transposed or whole_groups_go(before, module.groups)):
        module.groups = module.groups * shape[0] // before[0]
    inputs, outputs = (
        (shape[0], shape[1] * module.groups) if transposed else (shape[1] * module.groups, shape[0])
    )
    module.in_channels, module.out_channels = inputs, outputs


def attributes_to_fit(
    network: nn.Module, coupled: CoupledUnits, kept: Mapping[str, Tensor]
) -> list[Attribute]:
    """Return sizes kept by modules of other kinds that may have to change, by their values before the cut.

    These are integers, and integers in tuples and lists, equal to a size that an operation in the module's
    own forward pass was given and that is another now.
    """
    sizes: dict[str, dict[int, int]] = {}
    for literal in coupled.literals:
        new = coupled.num_kept(literal.labels, kept)
        if new != literal.size:
            sizes.setdefault(literal.module, {}).setdefault(literal.size, new)
    found: dict[tuple[str, str], Attribute] = {}
    modules = dict(network.named_modules())
    for name, changed in sizes.items():
        if name not in modules or isinstance(modules[name], FITTED):
            continue
        # A method of a part, such as a table of relative positions, runs in the name of the whole.
        parts = modules[name].named_modules(prefix=name) if name else [("", network)]
        for part_name, part in parts:
            for key, value in vars(part).items() if not isinstance(part, FITTED) else ():
                new_value = _changed(value, changed)
                if new_value != value:
                    found.setdefault((part_name, key), Attribute(part_name, key, value, new_value))
    return list(found.values())


def sizes_in_code(
    network: nn.Module, coupled: CoupledUnits, kept: Mapping[str, Tensor]
) -> dict[str, tuple[Size, ...]]:
    """Return the changed sizes in calls of ``view`` and ``reshape``, by the module of the calls."""
    calls: dict[tuple[str, int], tuple[tuple[int, ...], dict[int, int]]] = {}
    for literal in coupled.literals:
        if literal.place is not None:
            sizes, axis = literal.place
            new = coupled.num_kept(literal.labels, kept)
            if new != literal.size:
                calls.setdefault((literal.module, id(sizes)), (sizes, {}))[1][axis] = new
    found: dict[str, list[Size]] = {}
    for (name, _), (sizes, changed) in calls.items():
        fits = tuple(changed.get(axis, size) for axis, size in enumerate(sizes))
        found.setdefault(name, []).append((sizes, fits))
    modules = dict(network.named_modules())
    return {
        name: with_further(sizes_of(modules[name]), sizes)
        for name, sizes in found.items()
        if name in modules and not isinstance(modules[name], FITTED)
    }


def _changed(value: Any, changed: Mapping[int, int]) -> Any:
    """Return a size, or a tuple or list of sizes, with the changed sizes replaced."""
    if type(value) is int:
        return changed.get(value, value)
    if type(value) in (tuple, list) and value and all(type(each) is int for each in value):
        return type(value)(changed.get(each, each) for each in value)
    return value
