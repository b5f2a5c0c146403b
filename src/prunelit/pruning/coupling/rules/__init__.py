"""What each operation does to the labels of its operands, by the operation's name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Rule = Callable[..., Any]

RULES: dict[str, Rule] = {}


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a function as what the named operations of ``torch.ops.aten`` do to labels.

    It takes a ``Step`` and the operation's arguments, tensors as ``Marked``, and returns what the
    operation returns, tensors as ``Marked``.
    """

    def register(function: Rule) -> Rule:
        for name in names:
            RULES[f"aten.{name}"] = function
        return function

    return register
