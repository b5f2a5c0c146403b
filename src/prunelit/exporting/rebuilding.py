"""Rebuild a network: call its builder, then apply the structure and the tensors of a file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from prunelit.exporting.builders import Builder, class_of, make
from prunelit.exporting.plain import from_json, to_json
from prunelit.exporting.structure import INTERNAL, OWN, Structure, attributes, named_tensors
from prunelit.pruning.coupling.narrow_sizes import replace_sizes


class Unfit(ValueError):
    """A structure that does not fit the network of the builder; the message is one line."""


def rebuild(builder: Builder, structure: Structure, tensors: Mapping[str, Tensor]) -> nn.Module:
    """Return the network that a file describes, in evaluation mode.

    Args:
        builder: makes the original network.
        structure: the differences between the network and the original one.
        tensors: the values of the parameters and buffers of ``structure``.

    Raises:
        BadRequest: the builder is none that may be called.
        Unfit: structure, tensors and builder do not belong together.
        Exception: what the builder's class or function itself raises.
    """
    network = make(builder)
    for name, entry in structure.modules.items():
        module = _placed(network, name, entry) if "class" in entry else _module(network, name)
        _set_attributes(name, module, entry.get("attributes", {}))
        if "children" in entry:
            _set_children(name, module, entry["children"])
    for name in structure.absent:
        module, leaf = _owner(network, name)
        for held in (module._parameters, module._buffers):
            if leaf in held:
                held[leaf] = None
    _set_tensors(network, structure, tensors)
    _check_complete(network, structure)
    return network.eval()


def check_same(rebuilt: nn.Module, network: nn.Module) -> None:
    """Raise Unfit with the first difference, unless the rebuilt network equals the described one."""
    ours, theirs = (dict(each.named_modules()) for each in (rebuilt, network))
    for name, module in theirs.items():
        again = ours.get(name)
        if again is None or type(again).__qualname__ != type(module).__qualname__:
            raise Unfit(f"{name or 'the network'} would not be made again")
        kept = attributes(again)
        for key, value in attributes(module).items():
            if _plain(kept.get(key)) != _plain(value):
                raise Unfit(f"{key} of {name or 'the network'} would not be what it is")
    values = {name: tensor for name, tensor, _ in named_tensors(rebuilt)}
    for name, tensor, _ in named_tensors(network):
        if name not in values or values[name].shape != tensor.shape:
            raise Unfit(f"{name} would not be made again")
    if set(ours) != set(theirs) or len(values) != len(list(named_tensors(network))):
        raise Unfit("the network would have more parts than it has")


def _plain(value: Any) -> Any:
    """Return a plain value as JSON; other values were made by the constructors of both networks."""
    try:
        return to_json(value)
    except ValueError:
        return None


def _module(network: nn.Module, name: str) -> nn.Module:
    try:
        return network.get_submodule(name)
    except AttributeError:
        raise Unfit(f"there is no module {name!r}") from None


def _owner(network: nn.Module, name: str) -> tuple[nn.Module, str]:
    prefix, _, leaf = name.rpartition(".")
    return _module(network, prefix), leaf


def _placed(network: nn.Module, name: str, entry: Mapping[str, Any]) -> nn.Module:
    """Make a module of a class without calling its constructor, and insert it under its name."""
    parent, leaf = _owner(network, name)
    if not name or leaf not in parent._modules:
        raise Unfit(f"there is no place for a module {name!r}")
    found = class_of(entry["class"])
    module: nn.Module = found.__new__(found)
    nn.Module.__init__(module)
    parent._modules[leaf] = module
    empty = entry.get("empty", {})
    module._parameters.update(dict.fromkeys(empty.get("parameters", ())))
    module._buffers.update(dict.fromkeys(empty.get("buffers", ())))
    return module


def _set_attributes(name: str, module: nn.Module, values: Mapping[str, Any]) -> None:
    for key, value in values.items():
        if key in INTERNAL or key.startswith(("__", OWN)):
            raise Unfit(f"{key} of {name!r} is no attribute that a file may set")
        vars(module)[key] = from_json(value)
    if "narrow_sizes" in values:
        replace_sizes(module, vars(module)["narrow_sizes"])


def _set_children(name: str, module: nn.Module, children: Mapping[str, str | None]) -> None:
    held = dict(module._modules)
    module._modules.clear()
    for child, kind in children.items():
        if kind == "kept" and held.get(child) is None:
            raise Unfit(f"{name!r} has no module {child!r}")
        module._modules[child] = held[child] if kind == "kept" else None


def _set_tensors(network: nn.Module, structure: Structure, tensors: Mapping[str, Tensor]) -> None:
    made: dict[str, Tensor] = {}
    for name, entry in structure.tensors.items():
        module, leaf = _owner(network, name)
        kind, source = entry["kind"], entry.get("same_as", name)
        if source not in made:
            value = _value(name, entry, tensors)
            is_parameter = kind in ("parameter", "frozen")
            made[source] = nn.Parameter(value, kind == "parameter") if is_parameter else value
        tensor = made[source]
        if isinstance(tensor, nn.Parameter):
            setattr(module, leaf, tensor)  # recurrent layers also keep a list of them
        else:
            module._parameters.pop(leaf, None)
            module._buffers[leaf] = tensor
            if kind == "temporary":
                module._non_persistent_buffers_set.add(leaf)
            else:
                module._non_persistent_buffers_set.discard(leaf)


def _value(name: str, entry: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Tensor:
    value = tensors.get(name)
    if value is None:
        raise Unfit(f"there are no values of {name}")
    if list(value.shape) != entry["shape"] or str(value.dtype) != f"torch.{entry['dtype']}":
        raise Unfit(f"the values of {name} have another shape or type")
    return value


def _check_complete(network: nn.Module, structure: Structure) -> None:
    for name, _, kind in named_tensors(network):
        if name not in structure.tensors and kind != "temporary":
            raise Unfit(f"there are no values of {name}")
    for name, module in network.named_modules():
        new = structure.modules.get(name, {}).get("children", {})
        if missing := [child for child, kind in new.items() if kind and module._modules.get(child) is None]:
            raise Unfit(f"there is no description of {name}.{missing[0]}")
