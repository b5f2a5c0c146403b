"""Instantiate the object of a config node, and find the key that is wrong if this fails."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from hydra.utils import get_object, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from prunelit.request import BadRequest, within

WRONG_VALUE = (TypeError, ValueError, LookupError, ArithmeticError, MisconfigurationException)
"""Messages of other libraries about an unknown argument."""


def build(node: DictConfig, *without: str, **given: Any) -> Any:
    """Return the object that ``node._target_`` creates from the node without ``name`` and ``without``, and
    from ``given``.

    None for a node without ``_target_``.

    Raises:
        BadRequest: ``_target_`` does not exist, or does not accept the argument of a key.
    """
    values: Any = OmegaConf.to_container(node, resolve=True)
    if "_target_" not in values:
        return None
    for key in ("name", *without):
        values.pop(key, None)
    values.pop("_partial_", None)
    check_target(node)
    try:
        with within(node._get_full_key(None), {str(key) for key in node} - set(given)):
            return instantiate(values, _partial_=True, _convert_="all")(**given)
    except TypeError as error:
        unknown = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if unknown and unknown[1] in values:
            raise _refusal(node, unknown[1], f"an argument of {values['_target_']}") from error
        raise


def build_foreign(node: DictConfig, use: Callable[[Any], None] = lambda built: None, **given: Any) -> Any:
    """Return ``build(node, **given)``, whose class checks its arguments in its own way, after ``use`` of it.

    Raises:
        BadRequest: this fails; the error names the first key without which it does not fail in this way.
    """

    def attempt(*without: str) -> Any:
        built = build(node, *without, **given)
        use(built)
        return built

    try:
        return attempt()
    except BadRequest:
        raise
    except WRONG_VALUE as error:
        for key in map(str, node):
            if key not in ("name", "_target_", "_partial_") and _message(attempt, key) != str(error):
                said = str(error).strip().partition("\n")[0]
                raise _refusal(node, key, f"what {node._target_} takes ({said})") from error
        raise


def _message(attempt: Callable[[str], Any], key: str) -> str | None:
    """Return the error of an attempt without ``key``."""
    try:
        attempt(key)
    except WRONG_VALUE as error:
        return str(error)
    return None


def _refusal(node: DictConfig, key: str, allowed: str) -> BadRequest:
    value = node[key]
    return BadRequest(f"{node._get_full_key(None)}.{key}", "null" if value is None else value, allowed)


def check_target(node: DictConfig) -> None:
    """Raise BadRequest unless ``_target_`` can be imported."""
    try:
        get_object(node._target_)
    except (ImportError, ValueError) as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0]
        key = f"{node._get_full_key(None)}._target_"
        raise BadRequest(key, node._target_, "a dotted path that can be imported", reason) from error
