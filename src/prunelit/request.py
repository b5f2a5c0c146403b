"""What a user asked for, and the one line that says why it cannot be had."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any


class Missing(Enum):
    """The value of a key that was given none."""

    MISSING = "missing"


MISSING = Missing.MISSING


class BadRequest(ValueError):
    """A request that is wrong before any work starts; programs end with exit status 2.

    The message is one line: the config key, the value it was given, and what it must be.

    >>> str(BadRequest("batch_size", 0, "an integer >= 1"))
    'batch_size=0: must be an integer >= 1'
    """

    shows_in_the_run = False
    """Whether it is seen only once work has started, so that the record of the run keeps it."""

    def __init__(self, key: str, value: Any, allowed: str, why: str = "") -> None:
        self.key, self.value, self.allowed, self.why = key, value, allowed, why
        reason = f"{why}; " if why else ""
        given = key if value is MISSING else f"{key}={_shown(value)}"
        super().__init__(" ".join(f"{given}: {reason}must be {allowed}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the four arguments, so that the error crosses process borders whole."""
        return type(self), (self.key, self.value, self.allowed, self.why)


class OneLineFault(Exception):
    """A fault whose message is one line that says all there is to say; programs end with exit status 1."""


def _shown(value: Any) -> Any:
    """Return a value as it is written on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else value


def nearest_of(name: str, choices: Iterable[str]) -> str | None:
    """Return the choice that ``name`` was probably meant to be, None if there is none like it."""
    return next(iter(difflib.get_close_matches(name, list(choices), n=1, cutoff=0.6)), None)


class PruningWarning(UserWarning):
    """What was pruned is not what one may expect: layers left dense or empty, ties, a density not reached.

    Each is given once for each pruning, through :mod:`warnings`.
    """


def nearest(name: str, choices: Iterable[str]) -> str:
    """``"one of a, b, c"``, led by the choice nearest to ``name`` if one is near."""
    choices = sorted(choices)
    close = nearest_of(name, choices)
    listed = "one of " + ", ".join(choices)
    return f"{listed} (did you mean {close}?)" if close else listed


@contextmanager
def within(node: str, keys: Container[str]) -> Iterator[None]:
    """Complete the key of a wrong request inside the block: ``rounds`` becomes ``pruner.rounds``.

    Args:
        node: the dotted path of a node of the config.
        keys: its keys; another key stays as it is.
    """
    try:
        yield
    except BadRequest as error:
        if error.key.partition(".")[0] not in keys:
            raise
        raise type(error)(f"{node}.{error.key}", error.value, error.allowed, error.why) from error
