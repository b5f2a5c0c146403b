"""The order of methods and amounts: the same in tables, filters and plots.

Methods come alphabetically, the dense network (``none``) first. Numbers in names are compared as numbers:
``synflow rounds=20`` precedes ``synflow rounds=100``, and ``compression 2`` before ``compression 10``.
Of the budgets, ``flops`` come first, then ``params``, ``speedup`` and ``latency``, each beginning with the
one that prunes least: ``flops 0.5`` precedes ``flops 0.15``, and ``speedup 2`` precedes ``speedup 4``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from prunelit.amount import BUDGETS, PRUNES_MORE

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


DENSITIES = ("dense", "compression", "sparsity")
"""The first words of amounts that request a density."""


def is_budget(amount: str) -> bool:
    """Whether a requested amount in words is a budget, such as ``flops 0.5``."""
    return amount.partition(" ")[0] in BUDGETS


def amount_key(amount: str) -> tuple[int, int, float, Key]:
    """Return a sort key for requested amounts in words: densities, then budgets, then what methods decide."""
    word, _, value = amount.partition(" ")
    if not is_budget(amount):
        return 0 if word in DENSITIES else 2, 0, 0.0, natural_key(amount)
    number = float(value) if NUMBER.fullmatch(value) else 0.0
    return 1, BUDGETS.index(word), number if word in PRUNES_MORE else -number, natural_key(amount)


def group_key(names: tuple[str, ...]) -> tuple[object, ...]:
    """Return a sort key for ``(data, model, method, amount)``, or the first few of these."""
    data, model, *rest = map(str, names)
    return data, model, *(method_key(label) for label in rest[:1]), *map(amount_key, rest[1:])


def listed_amounts(amounts: Iterable[str]) -> str:
    """Return each amount once, in order; common words are not repeated: ``compression 1, 2``."""
    ordered = sorted(set(amounts), key=amount_key)
    words = {amount.rpartition(" ")[0] for amount in ordered}
    if len(words) != 1 or "" in words:
        return ", ".join(ordered)
    return f"{words.pop()} {', '.join(amount.rpartition(' ')[2] for amount in ordered)}"
