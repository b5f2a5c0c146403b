"""Former names of pruner options, and the message that gives the present name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prunelit.request import BadRequest

OF_GROWTH = ("decay", "stop", "regrow")


def refuse_former(options: Mapping[str, Any], node: str = "") -> None:
    """Raise BadRequest for the first option with a former name or value; the message names the present one.

    Args:
        options: the options of a pruner, by name.
        node: their node in a config, such as ``pruner.``; empty if they are arguments.
    """
    for key, value in options.items():
        if present := present_spelling(key, value, node):
            raise BadRequest(f"{node}{key}", value, f"left out (write {present})")


def present_spelling(key: str, value: Any, node: str = "") -> str | None:
    """Return the present spelling of an option, None if the option has not changed."""
    if key == "scope" and isinstance(value, str) and ":" in value:
        return f"{node}pattern={value}" if node else f"pattern={value!r}"
    if key == "mask_from" or (key == "scope" and value == "like"):
        return f"{node}densities_from=RUN" if node else "layer_densities={name: density}"
    if key == "grow" and isinstance(value, str):
        return f"{node}grow.at={value}" if node else f"grow=Growth(at={value!r})"
    if key in OF_GROWTH:
        shown = str(value).lower() if isinstance(value, (bool, str)) else value
        return f"{node}grow.{key}={shown}" if node else f"grow=Growth({key}={value!r})"
    return None
