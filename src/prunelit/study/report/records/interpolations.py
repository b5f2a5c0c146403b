"""Resolve the interpolations of a recorded config, within limits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

MOST_EXPANSIONS = 100_000
"""Maximum number of values to which the interpolations of a config could expand; prunelit's own have few."""


def resolved(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config with its interpolations resolved, unchanged if they cannot be or are too many."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if expansions(config) > MOST_EXPANSIONS:
        return dict(config)
    try:
        values: Any = OmegaConf.to_container(OmegaConf.create(dict(config)), resolve=True)
    except OmegaConfBaseException:
        return dict(config)
    return dict(values)


def expansions(config: Mapping[str, Any]) -> int:
    """Return a bound of the values to which the interpolations of ``config`` expand.

    An interpolation may refer to a text, a mapping or a list that contains several others. Following any
    chain of them, each of these is visited once, so that the product of their numbers is a bound.
    """
    bound = 1
    waiting: list[Any] = [config]
    while waiting and bound <= MOST_EXPANSIONS:
        node = waiting.pop()
        inner = list(node.values()) if isinstance(node, Mapping) else list(node)
        texts = [value.count("${") for value in inner if isinstance(value, str)]
        for number in (*texts, sum(map(bool, texts))):
            bound *= max(1, number)
        waiting += [value for value in inner if isinstance(value, (Mapping, list, tuple))]
    return bound
