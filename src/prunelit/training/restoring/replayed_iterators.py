"""Read from iterators whose place cannot be set, such as generators, without taking items from anybody."""

from __future__ import annotations

import copy
import inspect
import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from prunelit.training.scoring.batch_transfer import copied


class Replayed(Iterator[Any]):
    """Stands in for an iterator whose state cannot be copied, such as a generator.

    Until :meth:`rewind` is called it notes what is read. Afterwards it gives that once more, and
    then goes on with the iterator.
    """

    def __init__(self, source: Iterator[Any]) -> None:
        self.source = source
        self._read: deque[Any] = deque()
        self._noting = True

    def __next__(self) -> Any:
        """Return the next item; while items are noted, a copy of it, which the reader may change."""
        if self._noting:
            self._read.append(next(self.source))
            return copied(self._read[-1])
        return self._read.popleft() if self._read else next(self.source)

    def rewind(self) -> Iterator[Any]:
        """Return an iterator that begins where this one did: itself, or the source if nothing was read."""
        self._noting = False
        return self if self._read else self.source

    def __getattr__(self, name: str) -> Any:
        """Return the attributes of the source, such as ``close`` of a generator."""
        return getattr(self.source, name)


def is_opaque(value: Any) -> bool:
    """Return whether ``value`` is an iterator whose place cannot be noted and set again."""
    if isinstance(value, (types.GeneratorType, _MultiProcessingDataLoaderIter)):
        return True
    kind = type(value)
    return kind.__module__ in ("builtins", "itertools") and hasattr(kind, "__next__")


def begun_again(generator: Any) -> types.GeneratorType[Any, Any, Any] | None:
    """Return another generator that does the same, if this one has not begun yet.

    Other effects of a generator, such as drawing the seed of an order, then do not occur before
    its time. None: it has begun, or one of the iterators that it reads cannot be copied.
    """
    if (
        not isinstance(generator, types.GeneratorType)
        or inspect.getgeneratorstate(generator) != "GEN_CREATED"
    ):
        return None
    code, frame = generator.gi_code, generator.gi_frame
    assert frame is not None  # it has not ended
    variables = dict(frame.f_locals)
    try:
        for name, value in variables.items():
            if is_opaque(value):
                variables[name] = begun_again(value) or copy.copy(value)
    except TypeError:
        return None
    cells = tuple(types.CellType(variables[name]) for name in code.co_freevars)
    function = types.FunctionType(code, frame.f_globals, code.co_name, None, cells)
    named = code.co_varnames[: code.co_argcount]
    rest = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    extra = list(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
    more = variables[extra.pop(0)] if code.co_flags & inspect.CO_VARARGS else ()
    options = variables[extra.pop(0)] if code.co_flags & inspect.CO_VARKEYWORDS else {}
    arguments = [variables[name] for name in named]
    return function(*arguments, *more, **{name: variables[name] for name in rest}, **options)
