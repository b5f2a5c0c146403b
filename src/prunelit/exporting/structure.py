"""The differences between a network and the one that its builder makes: widths, attributes, modules."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from prunelit.exporting.builders import name_of
from prunelit.exporting.plain import NotPlain, to_json

INTERNAL = frozenset(vars(nn.Module()))
"""Attributes of every module that PyTorch itself keeps; training mode and hooks are among them."""
OWN = "_prunelit_"
"""The prefix of the attributes that prunelit sets on networks."""


@dataclass
class Structure:
    """The description of a network in a file, apart from its builder and its tensors.

    Attributes:
        modules: by name, for those that differ from the builder's: ``attributes`` that have other values,
            ``children`` where there are others (name to ``kept``, ``new`` or None, in order), and ``class``
            where the module is another, which then has all its attributes, and its ``empty`` parameters and
            buffers, such as the bias of a layer without one.
        tensors: by name: ``shape``, ``dtype``, ``kind`` (``parameter``, ``frozen``: a parameter that needs no
            gradient, ``buffer``, or ``temporary``: a buffer that no state dict has), and ``same_as``: its
            first name, where a tensor has several.
        absent: parameters and buffers that the builder's network has, and this one has not.
    """

    modules: dict[str, dict[str, Any]] = field(default_factory=dict)
    tensors: dict[str, dict[str, Any]] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


class NotDescribable(ValueError):
    """A network that such a file cannot describe; the message is one line."""


def describe(network: nn.Module, original: nn.Module) -> Structure:
    """Return the changes that turn ``original``, which its builder has just made, into ``network``.

    Raises:
        NotDescribable: the network holds something that no file can; names the module.
    """
    if _class_name(network) != _class_name(original):
        why = f"the network is a {_class_name(network)}, but build makes a {_class_name(original)}"
        raise NotDescribable(why)
    found = Structure()
    for name, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            raise NotDescribable(f"{name or 'the network'} is a scripted module")
        inside_new = any("class" in found.modules.get(prefix, {}) for prefix in _prefixes(name))
        entry = _difference(name, module, None if inside_new else _part(original, name))
        if entry:
            found.modules[name] = entry
    found.tensors = dict(_tensors(network, original))
    theirs = {name for name, _, _ in named_tensors(original)}
    found.absent = sorted(
        name for name in theirs - {n for n, _, _ in named_tensors(network)} if _has_owner(network, name)
    )
    return found


def _prefixes(name: str) -> list[str]:
    """Return the names of the modules that contain a module."""
    parts = name.split(".")
    return [".".join(parts[:end]) for end in range(1, len(parts))]


def named_tensors(network: nn.Module) -> Iterator[tuple[str, Tensor, str]]:
    """Yield each parameter and buffer under each of its names, with its kind."""
    for prefix, module in network.named_modules(remove_duplicate=False):
        start = f"{prefix}." if prefix else ""
        for name, parameter in module._parameters.items():
            if parameter is not None:
                yield start + name, parameter, "parameter" if parameter.requires_grad else "frozen"
        for name, buffer in module._buffers.items():
            if buffer is not None:
                temporary = name in module._non_persistent_buffers_set
                yield start + name, buffer, "temporary" if temporary else "buffer"


def attributes(module: nn.Module) -> dict[str, Any]:
    """Return the attributes of a module that are not parameters, buffers or submodules."""
    return {
        name: value
        for name, value in vars(module).items()
        if name not in INTERNAL and not name.startswith(OWN)
    }


def _difference(name: str, module: nn.Module, original: nn.Module | None) -> dict[str, Any]:
    if original is None or _class_name(module) != _class_name(original):
        entry: dict[str, Any] = {"class": name_of(type(module)), "attributes": _all_attributes(name, module)}
        held: dict[str, dict[str, Any]] = {"parameters": module._parameters, "buffers": module._buffers}
        entry["empty"] = {
            kind: [key for key, value in each.items() if value is None] for kind, each in held.items()
        }
        return {**entry, "children": {child: _kind(m) for child, m in module._modules.items()}}
    entry = {}
    changed = _changed_attributes(name, module, attributes(original))
    if changed:
        entry["attributes"] = changed
    names, theirs = list(module._modules), original._modules
    if names != list(theirs) or any((theirs[n] is None) != (module._modules[n] is None) for n in names):
        kept = {n: "kept" if theirs.get(n) is not None else "new" for n in names}
        entry["children"] = {n: None if module._modules[n] is None else kept[n] for n in names}
    return entry


def _kind(module: nn.Module | None) -> str | None:
    return None if module is None else "new"


def _all_attributes(name: str, module: nn.Module) -> dict[str, Any]:
    found = {}
    for key, value in attributes(module).items():
        try:
            found[key] = to_json(value)
        except NotPlain as error:
            raise NotDescribable(f"{name}, a {type(module).__name__}, keeps {key}: {error}") from error
    return found


def _changed_attributes(name: str, module: nn.Module, theirs: dict[str, Any]) -> dict[str, Any]:
    """Return plain attributes with other values; other attributes are made by the constructor."""
    found = {}
    for key, value in attributes(module).items():
        if isinstance(value, Tensor):
            known = key in theirs and not _is_computed(key, module)  # others come from a forward pass
            if known and not _same_tensor(value, theirs[key]):
                raise NotDescribable(f"{name} keeps {key}, a tensor that is no parameter and no buffer")
            continue
        try:
            described = to_json(value)
        except NotPlain:
            if callable(value) and key not in theirs:
                raise NotDescribable(f"{name or 'the network'} keeps {key}, which is code") from None
            continue
        try:
            if key in theirs and to_json(theirs[key]) == described:
                continue
        except NotPlain:
            pass
        found[key] = described
    return found


def _is_computed(key: str, module: nn.Module) -> bool:
    """Whether a hook computes a tensor before each forward pass, such as old-style weight norm."""
    return f"{key}_g" in module._parameters or f"{key}_orig" in module._parameters


def _tensors(network: nn.Module, original: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    first: dict[int, str] = {}
    fresh = {name: tensor for name, tensor, kind in named_tensors(original) if kind == "temporary"}
    for name, tensor, kind in named_tensors(network):
        if kind == "temporary" and _same_tensor(tensor, fresh.get(name)):
            continue
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise NotDescribable(f"{name} is no plain tensor")
        entry = {
            "shape": list(tensor.shape),
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "kind": kind,
        }
        if id(tensor) in first:
            entry["same_as"] = first[id(tensor)]
        first.setdefault(id(tensor), name)
        yield name, entry


def _same_tensor(tensor: Tensor, other: Any) -> bool:
    if not isinstance(other, Tensor) or other.shape != tensor.shape or other.dtype != tensor.dtype:
        return False
    return torch.equal(tensor.detach().cpu(), other.detach().cpu())


def _part(network: nn.Module, name: str) -> nn.Module | None:
    try:
        return network.get_submodule(name)
    except AttributeError:
        return None


def _has_owner(network: nn.Module, tensor: str) -> bool:
    return _part(network, tensor.rpartition(".")[0]) is not None


def _class_name(module: nn.Module) -> str:
    return f"{type(module).__module__}.{type(module).__qualname__}"
