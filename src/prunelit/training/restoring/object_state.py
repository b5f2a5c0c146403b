"""Restore the state of all objects that can be reached from given ones.

A training step may change anything: lists, counters, generators and caches of the module, of objects that it
holds, of its data set, or of what its methods refer to. Running it on a deep copy of the module would not do:
many modules cannot be copied (locks, non-leaf tensors, open files), hooks and closures would still refer to
the original, and weights and data sets would be in memory twice. Therefore each object is recorded and
restored in place.
"""

from __future__ import annotations

import copy
import functools
import io
import random
import types
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn.parameter import is_lazy
from torch.utils.data import DataLoader

from prunelit.pruning.preserve import tensor_undo
from prunelit.training.restoring.object_kinds import has_state, is_atom, is_data, is_library, slots_of
from prunelit.training.restoring.replayed_iterators import Replayed, begun_again, is_opaque

LARGEST_STATE = 64
"""Tensors and arrays of data sets with more elements than this are data, not state, and are not copied."""
KEPT = "_prunelit"
"""Attributes with this prefix are written by pruning and are not restored."""


class ObjectState:
    """The state of all objects that can be reached from ``roots``, as long as they are alive.

    Holds one copy of each tensor that is found, apart from ``left_alone`` and from large ones of data sets.
    Parameters have no gradient until :meth:`put_back`.

    Iterators whose place cannot be set, such as generators, are replaced in what holds them: by another one
    that does the same, or by a :class:`~prunelit.training.restoring.replayed_iterators.Replayed`, which gives
    items once more.
    """

    def __init__(self, roots: Iterable[Any], left_alone: Iterable[Any] = ()) -> None:
        self._undo: list[Callable[[], object]] = []
        self._stand_ins: dict[int, Any] = {}
        self._originals: dict[int, Any] = {}
        self._alive: list[Any] = [*left_alone]  # an id belongs to one object while it is alive
        seen = {id(value) for value in self._alive}
        pending = [(root, False) for root in roots]
        pending.reverse()
        while pending:
            value, data = pending.pop()
            if is_atom(value) or id(value) in seen:
                continue
            seen.add(id(value))
            self._alive.append(value)
            data = data or is_data(value)
            pending += [(child, data) for child in self._note(value, data)]

    def put_back(self) -> None:
        """Restore every object."""
        for undo in reversed(self._undo):
            undo()

    def _note(self, value: Any, data: bool) -> Iterable[Any]:
        """Record the state of ``value`` itself, and return the objects that it refers to."""
        if isinstance(value, Tensor):
            return self._note_tensor(value, data)
        if isinstance(value, np.ndarray):
            return self._note_array(value, data)
        if self._note_generator(value) or self._note_file(value):
            return ()
        if isinstance(value, (tuple, frozenset)):
            return value
        if isinstance(value, types.MethodType):
            return value.__self__, value.__func__
        if isinstance(value, types.GeneratorType) and value.gi_frame:  # one that was begun again for scores
            return value.gi_frame.f_locals.values()
        if isinstance(value, types.FunctionType):
            return self._note_function(value)
        if isinstance(value, (classmethod, staticmethod)):
            return (value.__func__,)
        if isinstance(value, property):
            return value.fget, value.fset
        if isinstance(value, functools.partial):
            return value.func, value.args, value.keywords
        if isinstance(value, type):
            return self._note_class(value)
        return [*self._note_items(value), *self._note_attributes(value)]

    def _note_items(self, value: Any) -> Iterable[Any]:
        if isinstance(value, dict):
            return self._note_dict(value)
        if isinstance(value, list):
            items = [self._stand_in(item) for item in value]
            list.__setitem__(value, slice(None), items)
            self._undo.append(lambda: list.__setitem__(value, slice(None), map(self._given_back, items)))
            return items
        if isinstance(value, deque):
            items = list(value)
            self._undo += [
                functools.partial(deque.extend, value, items),
                functools.partial(deque.clear, value),
            ]
            return items
        if isinstance(value, set):
            members = set(value)
            self._undo.append(functools.partial(set.update, value, members))
            self._undo.append(value.clear)
            return members
        if isinstance(value, bytearray):
            content = bytes(value)
            self._undo.append(lambda: bytearray.__setitem__(value, slice(None), content))
        return ()

    def _note_dict(self, value: dict[Any, Any]) -> Iterable[Any]:
        kind = OrderedDict if isinstance(value, OrderedDict) else dict
        before = {key: self._stand_in(item) for key, item in dict.items(value)}
        for key, item in before.items():
            if item is not value[key]:
                kind.__setitem__(value, key, item)

        def undo() -> None:
            own = {k: v for k, v in dict.items(value) if isinstance(k, str) and k.startswith(KEPT)}
            after = {**{key: self._given_back(item) for key, item in before.items()}, **own}
            if not _same_items(value, after):
                kind.clear(value)
                for key, item in after.items():
                    kind.__setitem__(value, key, item)

        self._undo.append(undo)
        return before.values()

    def _note_attributes(self, value: Any) -> Iterable[Any]:
        if not has_state(value):
            return ()
        found: list[Any] = [type(value)]
        for name in slots_of(type(value)):
            if hasattr(value, name):
                item = getattr(value, name)
                self._undo.append(functools.partial(object.__setattr__, value, name, item))
                found.append(item)
        attributes = getattr(value, "__dict__", None)
        if isinstance(attributes, dict):
            found += self._note_dict(attributes)
            if isinstance(value, DataLoader) and isinstance(attributes.get("_iterator"), Replayed):
                attributes["_iterator"] = None  # who reads it starts workers of its own
        return found

    def _note_tensor(self, tensor: Tensor, data: bool) -> Iterable[Any]:
        if is_lazy(tensor) or isinstance(tensor, DTensor) or tensor.is_meta or tensor.is_inference():
            return ()
        if data and tensor.numel() > LARGEST_STATE:
            return ()
        self._undo.append(tensor_undo(tensor))
        return ()

    def _note_array(self, array: np.ndarray[Any, Any], data: bool) -> Iterable[Any]:
        if not array.flags.writeable or isinstance(array, np.memmap) or (data and array.size > LARGEST_STATE):
            return ()
        content = array.copy()
        self._undo.append(lambda: array.__setitem__(..., content))
        return array.ravel().tolist() if array.dtype == object else ()

    def _note_generator(self, value: Any) -> bool:
        """Record the state of a random number generator; return whether ``value`` is one."""
        if isinstance(value, torch.Generator):
            self._undo.append(functools.partial(value.set_state, value.get_state()))
        elif isinstance(value, random.Random) and not isinstance(value, random.SystemRandom):
            self._undo.append(functools.partial(value.setstate, value.getstate()))
        elif isinstance(value, np.random.RandomState):
            self._undo.append(functools.partial(value.set_state, value.get_state()))
        elif isinstance(value, (np.random.Generator, np.random.BitGenerator)):
            bits = value.bit_generator if isinstance(value, np.random.Generator) else value
            self._undo.append(functools.partial(setattr, bits, "state", copy.deepcopy(bits.state)))
        else:
            return False
        return True

    def _note_file(self, value: Any) -> bool:
        """Record the position and the end of an open file; return whether ``value`` is one."""
        if not isinstance(value, io.IOBase):
            return False
        with suppress(OSError, ValueError):  # closed, a pipe, or read line by line at the moment
            if value.seekable():
                self._undo.append(functools.partial(_cut_off, value, value.tell()))
        return True

    def _note_function(self, function: types.FunctionType) -> Iterable[Any]:
        """Note the variables of other scopes that a function of the user's refers to."""
        if is_library(function.__module__):
            return ()
        found: list[Any] = [function.__defaults__, function.__kwdefaults__, vars(function)]
        for cell in function.__closure__ or ():
            try:
                item = self._stand_in(cell.cell_contents)
            except ValueError:  # a variable that has no value yet
                continue
            cell.cell_contents = item
            self._undo.append(lambda c=cell, i=item: setattr(c, "cell_contents", self._given_back(i)))  # type: ignore[misc]
            found.append(item)
        scope = function.__globals__
        for name in function.__code__.co_names:
            if name in scope and not isinstance(scope[name], types.ModuleType):
                self._undo.append(functools.partial(scope.__setitem__, name, scope[name]))
                found.append(scope[name])
        return found

    def _note_class(self, kind: type) -> Iterable[Any]:
        """Note what a class of the user's holds for all its objects."""
        if is_library(kind.__module__):
            return ()
        attributes = {n: v for n, v in vars(kind).items() if not (n.startswith("__") and is_atom(v))}
        for name, item in attributes.items():
            if is_atom(item):
                self._undo.append(functools.partial(_set_again, kind, name, item))
        return [*kind.__bases__, *attributes.values()]

    def _stand_in(self, value: Any) -> Any:
        """Return what is read for scores in the place of ``value``, if that is an iterator."""
        if not is_opaque(value):
            return value
        if id(value) not in self._stand_ins:
            stand_in = begun_again(value) or Replayed(value)
            self._stand_ins[id(value)], self._originals[id(stand_in)] = stand_in, value
        return self._stand_ins[id(value)]

    def _given_back(self, value: Any) -> Any:
        """Return what is to be read in the place of ``value`` from now on."""
        return value.rewind() if isinstance(value, Replayed) else self._originals.get(id(value), value)


def _cut_off(file: io.IOBase, place: int) -> None:
    """Go back to a place in a file, and take away what was written behind it."""
    with suppress(OSError, ValueError):
        if file.tell() == place:
            return
        file.seek(place)
        if file.writable():
            file.truncate()


def _same_items(found: dict[Any, Any], wanted: dict[Any, Any]) -> bool:
    pairs = zip(dict.items(found), wanted.items(), strict=False)
    return len(found) == len(wanted) and all(a is c and b is d for (a, b), (c, d) in pairs)


def _set_again(kind: type, name: str, value: Any) -> None:
    if vars(kind).get(name) is not value:
        setattr(kind, name, value)
