"""Plain values as JSON and back: what the arguments and attributes of networks may be in a file."""

from __future__ import annotations

import math
from typing import Any

TUPLE, FLOAT = "_tuple_", "_float_"
"""Keys of the objects that stand for a tuple, and for a float that JSON does not have."""


class NotPlain(ValueError):
    """A value that is no number, text, boolean, None, or list, tuple or dictionary of these."""


def to_json(value: Any) -> Any:
    """Return what JSON holds for a plain value; tuples (``torch.Size`` too) stay tuples when it is read.

    Raises:
        NotPlain: the value, or one within it, is of another kind; the message is one line.
    """
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {FLOAT: str(value)}
    if isinstance(value, tuple):
        return {TUPLE: [to_json(each) for each in value]}
    if isinstance(value, list):
        return [to_json(each) for each in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: to_json(each) for key, each in value.items()}
    raise NotPlain(f"a {type(value).__name__} is no plain value")


def from_json(value: Any) -> Any:
    """Return the plain value that :func:`to_json` wrote."""
    if isinstance(value, list):
        return [from_json(each) for each in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {TUPLE} and isinstance(value[TUPLE], list):
        return tuple(from_json(each) for each in value[TUPLE])
    if set(value) == {FLOAT}:
        return float(value[FLOAT])
    return {key: from_json(each) for key, each in value.items()}
