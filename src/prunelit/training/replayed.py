"""An iterator that gives the items that were read from it once more."""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterator
from typing import Any

from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from prunelit.training.batch_transfer import copied


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
    """Tell whether ``value`` is an iterator whose place cannot be noted and set again."""
    if isinstance(value, (types.GeneratorType, _MultiProcessingDataLoaderIter)):
        return True
    kind = type(value)
    return kind.__module__ in ("builtins", "itertools") and hasattr(kind, "__next__")
