"""Modules in whose code sizes stand that became smaller, such as ``reshape(batch, length, width)``.

Where a module computes such a size from its inputs, or has it as a number, no attribute can be changed.
The calls of ``view`` and ``reshape`` get the smaller size instead while the module's forward pass runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Size = tuple[tuple[int, ...], tuple[int, ...]]
"""All sizes that a call asked for before the cut, and those that fit now."""

_RESHAPES = (Tensor.view, Tensor.reshape, torch.reshape)


class NarrowSizes(nn.Module):
    """In front of a module's own class: its forward pass with the sizes in ``narrow_sizes`` replaced."""

    narrow_sizes: tuple[Size, ...]
    _prunelit_replaced: bool

    def forward(self, *arguments: Any, **keywords: Any) -> Any:
        """Return what the module's own forward pass does."""
        replacing = _Replacing(self.narrow_sizes)
        with replacing:
            result = super().forward(*arguments, **keywords)
        self._prunelit_replaced = replacing.replaced
        return result

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Let copies and files name the module's own class, which a program can import."""
        return _without_values, (type(self).__mro__[2],), self.__getstate__()


def _without_values(kind: Any) -> nn.Module:
    narrow = _with_narrow_sizes(kind)
    module: nn.Module = narrow.__new__(narrow)
    return module


@cache
def _with_narrow_sizes(kind: Any) -> type[nn.Module]:
    names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return type(kind.__name__, (NarrowSizes, kind), names)


def sizes_of(module: nn.Module) -> tuple[Size, ...]:
    """Return which sizes are replaced in the forward pass of a module."""
    return module.narrow_sizes if isinstance(module, NarrowSizes) else ()


def has_replaced(module: nn.Module) -> bool:
    """Return whether any size was replaced in the last forward pass of a module."""
    return isinstance(module, NarrowSizes) and module._prunelit_replaced


def replace_sizes(module: nn.Module, sizes: Iterable[Size]) -> None:
    """Replace these sizes, and no others, in the forward pass of a module from now on."""
    sizes = tuple(sizes)
    if isinstance(module, NarrowSizes):
        module.__class__ = type(module).__mro__[2]
        for name in NarrowSizes.__annotations__:
            vars(module).pop(name, None)
    if sizes:
        kind: Any = type(module)
        module.__class__ = _with_narrow_sizes(kind)
        vars(module).update(narrow_sizes=sizes, _prunelit_replaced=False)


def with_further(sizes: Iterable[Size], further: Iterable[Size]) -> tuple[Size, ...]:
    """Return ``sizes`` of a first cut, merged with the sizes of a second cut of its result."""
    found = dict(sizes)
    for before, now in further:
        earlier = [code for code, left in found.items() if _follows(code, left, before, now)]
        for code in earlier or [before]:
            left = found.get(code, before)
            changed = {*_changed(code, left), *_changed(before, now)}
            found[code] = tuple(now[axis] if axis in changed else size for axis, size in enumerate(code))
    return tuple(found.items())


def _changed(before: Sequence[int], now: Sequence[int]) -> list[int]:
    return [axis for axis, size in enumerate(before) if now[axis] != size]


def _follows(code: Sequence[int], left: Sequence[int], before: Sequence[int], now: Sequence[int]) -> bool:
    """Return whether a second cut changes the sizes that a first one left."""
    if len(code) != len(before):
        return False
    return all(left[axis] == before[axis] for axis in (*_changed(code, left), *_changed(before, now)))


class _Replacing(TorchFunctionMode):
    """Gives calls of ``view`` and ``reshape`` that ask for a size of before the cut the one that fits."""

    def __init__(self, sizes: Sequence[Size]) -> None:
        super().__init__()
        self.replaced = False
        self._sizes = sizes

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _RESHAPES and not kwargs:
            asked = args[1] if len(args) == 2 and not isinstance(args[1], int) else args[1:]
            if isinstance(asked, tuple | list | torch.Size) and (fits := self._that_fit(args[0], asked)):
                self.replaced = True
                return func(args[0], fits)
        return func(*args, **(kwargs or {}))

    def _that_fit(self, tensor: Tensor, asked: Sequence[Any]) -> tuple[Any, ...] | None:
        """Return the sizes to ask for instead, None if those asked for are right.

        Of several possibilities, the call that asked for the most of the same sizes decides.
        """
        if -1 not in asked and math.prod(asked) == tensor.numel():
            return None
        possible: dict[tuple[Any, ...], int] = {}
        for code, now in self._sizes:
            changed = _changed(code, now)
            if len(code) != len(asked) or any(asked[axis] not in (code[axis], -1) for axis in changed):
                continue
            places = [axis for axis in changed if asked[axis] != -1]
            fits = tuple(now[axis] if axis in places else size for axis, size in enumerate(asked))
            given = math.prod(size for size in fits if size != -1)
            right = tensor.numel() % given == 0 if given and -1 in fits else tensor.numel() == given
            if places and right:
                same = sum(size == other for size, other in zip(asked, code, strict=True))
                possible[fits] = max(same, possible.get(fits, 0))
        return max(possible, key=lambda fits: possible[fits], default=None)
