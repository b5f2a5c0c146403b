"""Tensors within nested containers: tuples, lists, mappings, dataclasses and other plain objects."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence, unpack_sequence


def tensors_in(value: Any) -> list[Tensor]:
    """Return every tensor in ``value``, in order; one that is there twice is returned twice.

    In addition to the standard containers, this supports subclasses of ``dict`` such as the outputs of
    Hugging Face models, named tuples, dataclasses, and any object that holds tensors as attributes.
    """
    found: list[Tensor] = []
    _collect(value, found, set())
    return found


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """Return a copy of ``value`` with ``function(tensor)`` in the place of each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, (tuple, list)):
        mapped = [map_tensors(function, each) for each in value]
        if hasattr(value, "_fields"):
            return type(value)(*mapped)
        return mapped if type(value) is list else type(value)(mapped)
    if isinstance(value, Mapping):
        return _map_mapping(function, value)
    attributes = _attributes(value)
    if not attributes or not tensors_in(value):
        return value
    result = copy.copy(value)
    for name, each in attributes.items():
        object.__setattr__(result, name, map_tensors(function, each))
    return result


def rows_of(packed: PackedSequence, rows: slice) -> PackedSequence:
    """Return some of the sequences of ``packed``."""
    return pack_sequence(unpack_sequence(packed)[rows], enforce_sorted=False)


def _map_mapping(function: Callable[[Tensor], Any], value: Mapping[Any, Any]) -> Any:
    mapped = {key: map_tensors(function, each) for key, each in value.items()}
    if not isinstance(value, MutableMapping):
        return mapped
    result = copy.copy(value)
    for key, each in mapped.items():
        result[key] = each
        if isinstance(key, str) and key in _attributes(value):
            object.__setattr__(result, key, each)
    return result


def _collect(value: Any, found: list[Tensor], seen: set[int]) -> None:
    if isinstance(value, Tensor):
        found.append(value)
        return
    if id(value) in seen:
        return
    if isinstance(value, (tuple, list)):
        parts: Any = value
    elif isinstance(value, Mapping):
        parts = value.values()
    else:
        parts = _attributes(value).values()
    if parts:
        seen.add(id(value))
    for part in parts:
        _collect(part, found, seen)


def _attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of a plain object; none of a module, a class or a function."""
    if isinstance(value, (nn.Module, type)) or callable(value):
        return {}
    found = dict(getattr(value, "__dict__", {}))
    for kind in type(value).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if not name.startswith("__") and hasattr(value, name):
                found[name] = getattr(value, name)
    return found
