"""What a user asked for, and the one line that says why it cannot be had."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class BadRequest(ValueError):
    """A request that is wrong before any work starts; programs end with exit status 2.

    The message is one line: the config key, the value it was given, and what is allowed.

    >>> str(BadRequest("batch_size", 0, "an integer of 1 or more"))
    'batch_size=0: allowed is an integer of 1 or more'
    """

    def __init__(self, key: str, value: Any, allowed: str, why: str = "") -> None:
        self.key, self.value, self.allowed, self.why = key, value, allowed, why
        reason = f"{why}; " if why else ""
        super().__init__(" ".join(f"{key}={value}: {reason}allowed is {allowed}".split()))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle by the four arguments, so that the error crosses process borders whole."""
        return type(self), (self.key, self.value, self.allowed, self.why)


def nearest(name: str, choices: Iterable[str]) -> str:
    """``"one of a, b, c"``, led by the choice nearest to ``name`` if one is near."""
    choices = sorted(choices)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.6)
    listed = "one of " + ", ".join(choices)
    return f"{listed} (did you mean {close[0]}?)" if close else listed
