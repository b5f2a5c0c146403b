"""Errors of the user, reported in one line each."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any


class Missing(Enum):
    """The value of a key that has no value."""

    MISSING = "missing"


MISSING = Missing.MISSING


class BadRequest(ValueError):
    """A request that is wrong before any work starts; programs end with exit status 2.

    The message is one line: the config key, the value it was given, and what it must be.

    >>> str(BadRequest("batch_size", 0, "an integer >= 1"))
    'batch_size=0: must be an integer >= 1'
    """

    shows_in_the_run = False
    """Whether the error is only detected after work has started, so that the record of the run contains
    it."""

    def __init__(self, key: str, value: Any, allowed: str, why: str = "") -> None:
        self.key, self.value, self.allowed, self.why = key, value, allowed, why
        reason = f"{why}; " if why else ""
        given = key if value is MISSING else f"{key}={_shown(value)}"
        super().__init__(" ".join(f"{given}: {reason}must be {allowed}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the four arguments, so that the error can be sent between processes."""
        return type(self), (self.key, self.value, self.allowed, self.why)


class OneLineFault(Exception):
    """An error that is reported in one line without a traceback; programs end with exit status 1."""


def _shown(value: Any) -> Any:
    """Return a value as it is written on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else value


def nearest_of(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice most similar to ``name``, None if no choice is similar."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)), None)


class PruningWarning(UserWarning):
    """The result of pruning may be unexpected: dense or empty layers, ties, a density that was not reached.

    Each warning is given once per pruning, through :mod:`warnings`.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """``"one of a, b, c"``, with a suggestion if a choice is similar to ``name``."""
    choices = sorted(choices)
    close = nearest_of(name, choices)
    listed = "one of " + ", ".join(choices)
    return f"{listed} (did you mean {close}?)" if close else listed


@contextmanager
def within(node: str, keys: Container[str]) -> Iterator[None]:
    """Complete the key of a BadRequest raised in the block: ``rounds`` becomes ``pruner.rounds``.

    Args:
        node: the dotted path of a node of the config.
        keys: the keys of the node; other keys are not changed.
    """
    try:
        yield
    except BadRequest as error:
        if error.key.partition(".")[0] not in keys:
            raise
        raise type(error)(f"{node}.{error.key}", error.value, error.allowed, error.why) from error
