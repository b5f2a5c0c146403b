"""Convert plain values to JSON and back: the allowed arguments and attributes of networks in a file."""

from __future__ import annotations

import math
from typing import Any

TUPLE, FLOAT = "_tuple_", "_float_"
"""Keys of the objects that represent tuples, and floats that JSON lacks."""


class NotPlain(ValueError):
    """A value that is not a number, string, boolean, None, or a list, tuple or dictionary of these."""


def to_json(value: Any) -> Any:
    """Return a plain value as JSON; tuples (``torch.Size`` too) are tuples again when it is read.

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
