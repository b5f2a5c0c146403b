"""The order of methods and amounts: the same in tables, filters and plots.

Methods come alphabetically, the dense network (``none``) first. Numbers in names are compared as numbers:
``synflow rounds=20`` precedes ``synflow rounds=100``, and ``compression 2`` before ``compression 10``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

NUMBER = re.compile(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)")
Key = tuple[tuple[int, float, str], ...]


def natural_key(text: str) -> Key:
    """Return a sort key with which the numbers in texts are compared as numbers."""
    parts = NUMBER.split(text)
    return tuple((0, float(part), "") if number % 2 else (1, 0.0, part) for number, part in enumerate(parts))


PRUNED_BEFORE = "pruned checkpoint"
"""The method of runs that prune nothing, and train on under the masks of a checkpoint."""


def is_dense(label: str) -> bool:
    """Whether a method of this name is the dense network."""
    return label.split(" ")[0] == "none"


def method_key(label: str) -> tuple[bool, Key]:
    """Return a sort key for names of methods."""
    return not is_dense(label), natural_key(label)


def sorted_methods(labels: Iterable[str]) -> list[str]:
    """Return each method once, in order."""
    return sorted(set(labels), key=method_key)


def group_key(names: tuple[str, ...]) -> tuple[object, ...]:
    """Return a sort key for ``(data, model, method, amount)``, or the first few of these."""
    data, model, *rest = map(str, names)
    return data, model, *(method_key(label) for label in rest[:1]), *map(natural_key, rest[1:])


def listed_amounts(amounts: Iterable[str]) -> str:
    """Return each amount once, in order; common words are not repeated: ``compression 1, 2``."""
    ordered = sorted(set(amounts), key=natural_key)
    words = {amount.rpartition(" ")[0] for amount in ordered}
    if len(words) != 1 or "" in words:
        return ", ".join(ordered)
    return f"{words.pop()} {', '.join(amount.rpartition(' ')[2] for amount in ordered)}"
