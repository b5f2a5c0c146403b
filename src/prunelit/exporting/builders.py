"""The class or function that makes a network: how a file names it, and which names may be called.

A file names a builder as Hydra does: ``{"_target_": "torchvision.models.resnet18", "num_classes": 10}``, with
positional arguments under ``_args_``. Only subclasses of ``torch.nn.Module``, and functions whose return
annotation is one, are called; whatever else a file names is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import nn

from prunelit.exporting.plain import NotPlain, from_json, to_json
from prunelit.request import BadRequest

Builder = Mapping[str, Any]
"""The name of a class or function, ``_target_``, and its arguments, all as JSON."""

ALLOWED = "a subclass of torch.nn.Module that can be imported by name, or a function annotated to return one"
LOADER = "prunelit.load"
"""The name of the function that reads a folder; a builder never calls it."""


def describe_builder(build: Any) -> dict[str, Any]:
    """Return the name and the arguments of the class or function that makes a network.

    Args:
        build: a class, a function, a ``functools.partial`` of one with the arguments, or a mapping with
            ``_target_`` and arguments, such as the ``model`` node of a config. Arguments are plain values,
            classes of modules, or partials of them.

    Raises:
        BadRequest: on ``build``; it cannot be written so, or would not be called when the file is read.
    """
    described = _described(build, "build")
    if not isinstance(described, dict) or "_target_" not in described:
        raise BadRequest("build", _name(build), ALLOWED)
    described.pop("_partial_", None)
    _callable_of(described)
    return described


def make(builder: Builder) -> nn.Module:
    """Call a builder; the random state stays as it was.

    Raises:
        BadRequest: on ``build``; it is none that may be called.
        Exception: what the class or function itself raises.
    """
    with torch.random.fork_rng(devices=[]):
        network = _called(builder)
    if not isinstance(network, nn.Module):
        raise BadRequest("build", builder.get("_target_"), ALLOWED, f"it made a {type(network).__name__}")
    return network


def class_of(name: str) -> type[nn.Module]:
    """Return the module class of a dotted name.

    Raises:
        BadRequest: on ``build``; there is none of this name.
    """
    found = _imported(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise BadRequest("build", name, "the name of a subclass of torch.nn.Module")
    return found


def name_of(cls: type | Callable[..., Any]) -> str:
    """Return the dotted name by which a class or function can be imported.

    Raises:
        BadRequest: on ``build``; there is none, as for a class made within a function or in a script.
    """
    if not hasattr(cls, "__qualname__"):
        raise BadRequest("build", type(cls).__name__, ALLOWED)
    name = f"{cls.__module__}.{cls.__qualname__}"
    if cls.__module__ == "__main__":
        raise BadRequest("build", name, "a class of a module of its own", "a script cannot be imported")
    if "<" in name or _imported(name) is not cls:
        raise BadRequest("build", name, ALLOWED)
    return name


def _described(value: Any, key: str) -> Any:
    """Return a class, function or partial as a node, and anything else as a plain value."""
    if isinstance(value, partial):
        inner = {"_target_": name_of(value.func), **_nested(value.keywords, key)}
        if value.args:
            inner["_args_"] = [_described(each, key) for each in value.args]
        return {**inner, "_partial_": True}
    if isinstance(value, type) or callable(value):
        return {"_target_": name_of(value), "_partial_": True}
    if isinstance(value, Mapping) and not isinstance(value, dict):
        value = dict(value)
    if isinstance(value, dict):
        return _nested(value, key)
    if isinstance(value, list):
        return [_described(each, key) for each in value]
    try:
        return to_json(value)
    except NotPlain as error:
        allowed = "made with plain values, classes of modules and partials of them"
        raise BadRequest(key, _name(value), allowed, str(error)) from error


def _nested(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {str(name): _described(value, f"{key}.{name}") for name, value in values.items()}


def _called(node: Any) -> Any:
    """Return plain values, with the builders in them replaced by what they make."""
    if isinstance(node, list):
        return [_called(each) for each in node]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        plain = from_json(node)
        return plain if not isinstance(plain, dict) else {key: _called(value) for key, value in node.items()}
    function = _callable_of(node)
    arguments = [_called(each) for each in node.get("_args_", [])]
    named = {k: _called(v) for k, v in node.items() if k not in ("_target_", "_args_", "_partial_")}
    if node.get("_partial_"):
        return partial(function, *arguments, **named) if arguments or named else function
    return function(*arguments, **named)


def _callable_of(node: Builder) -> Callable[..., Any]:
    """Return the class or function of a node, if it may be called."""
    name = node["_target_"]
    if not isinstance(name, str) or name == LOADER:
        raise BadRequest("build", name, ALLOWED)
    found: Any = _imported(name)
    if isinstance(found, type) and issubclass(found, nn.Module):
        return found
    if isinstance(found, FunctionType) and _returns_a_module(found):
        return found
    why = "it is a function that does not say what it returns" if isinstance(found, FunctionType) else ""
    raise BadRequest("build", name, ALLOWED, why)


def _imported(name: str) -> Any:
    """Return the object with a dotted name; a module takes precedence over an attribute of the same name."""
    parts = name.split(".")
    try:
        for end in range(len(parts) - 1, 0, -1):
            found: Any = _module(".".join(parts[:end]))
            if found is not None:
                for attribute in parts[end:]:
                    found = getattr(found, attribute)
                return found
    except Exception as error:  # other modules may raise any exception when they are imported
        raise BadRequest("build", name, ALLOWED, " ".join(str(error).split())[:200]) from error
    raise BadRequest("build", name, ALLOWED, f"there is no module {parts[0]}")


def _module(name: str) -> ModuleType | None:
    """Import a module; None if there is none of this name."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            return None
        raise


def _returns_a_module(function: FunctionType) -> bool:
    """Whether the return annotation is a module class; a string is looked up by name and never evaluated."""
    function = inspect.unwrap(function)
    annotation = function.__annotations__.get("return")
    if isinstance(annotation, str):
        first, *rest = annotation.split(".")
        annotation = function.__globals__.get(first)
        for name in rest:
            annotation = getattr(annotation, name, None)
    return isinstance(annotation, type) and issubclass(annotation, nn.Module)


def _name(value: Any) -> str:
    return getattr(value, "__qualname__", type(value).__name__)
