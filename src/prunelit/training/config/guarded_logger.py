"""A wrapper for loggers, so that a failing logger does not end a run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from prunelit.durable import is_full
from prunelit.notice import warn


class GuardedLogger:
    """Wraps a logger, forwards every call to it, and warns once for each kind of call that fails.

    A logger that cannot start, for example because its server cannot be reached, receives no further calls. A
    full disk still ends the run, because its record could not be written either.

    Args:
        logger: a logger of Lightning or of another package.
        label: its name in warnings.
    """

    def __init__(self, logger: Any, label: str) -> None:
        self._logger, self._label = logger, label
        self._begun = self._off = False
        self._warned: set[str] = set()

    # Other code checks the class of the logger.
    __class__ = property(lambda self: self._logger.__class__)

    @property
    def experiment(self) -> Any:
        """The logger's experiment; None if it could not be created."""
        if self._off:
            return None
        found = self._attempt("experiment", lambda: self._logger.experiment)
        self._off = not self._begun and "experiment" in self._warned
        self._begun = True
        return found

    def __getattr__(self, name: str) -> Any:
        if name in ("_logger", "_label") or name.startswith("__"):  # while it is copied
            raise AttributeError(name)
        found = getattr(self._logger, name)
        return partial(self._call, name, found) if callable(found) else found

    def _call(self, name: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if not self._begun and name != "finalize":
            _ = self.experiment
        if self._off or not self._begun:
            return None
        return self._attempt(name, lambda: function(*args, **kwargs))

    def _attempt(self, what: str, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except Exception as error:
            if is_full(error):
                raise
            if what not in self._warned:
                self._warned.add(what)
                reason = next(iter(str(error).strip().splitlines()), "")
                lost = "is left out" if what == "experiment" else f"lacks what {what} was to write"
                kind = type(error).__name__
                warn(f"logger={self._label} {lost}; the run continues: {kind}: {reason[:200]}")
            return None
