"""Numbers and figures of a record that may be missing: a failure to compute them does not end a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prunelit.durable import is_full
from prunelit.notice import warn

T = TypeVar("T")


class BestEffort:
    """Calls functions that may fail, and warns once for each kind of missing result."""

    def __init__(self) -> None:
        self._missing: set[str] = set()

    def __call__(self, what: str, compute: Callable[[], T]) -> T | None:
        """Return ``compute()``; None, with a warning that ``what`` is missing, if it raises an exception.

        A full disk still ends the run, because nothing more can be recorded.
        """
        try:
            return compute()
        except Exception as error:
            if is_full(error):
                raise
            if what not in self._missing:
                self._missing.add(what)
                lines = str(error).strip().splitlines() or [type(error).__name__]
                kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
                warn(f"the record lacks {what}: {kind}{lines[0]}")
            return None
