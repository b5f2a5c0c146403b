"""The names of methods in a study: the pruner, and the keys in which its variants differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from prunelit.amount import BUDGETS, KEYS
from prunelit.study.bounded import LONGEST_NAME
from prunelit.study.identity import NO_RESULT
from prunelit.study.report.plain_text import plain

Flat = dict[str, Any]

NOT_METHOD = (
    *("seed", *KEYS, "pruner.compression", "pruner.name", "pruner._target_"),
    *("data.name", "data._target_", "data.dataset", "model.name", "model._target_"),
    *("trainer.accelerator", "pruner.criterion.cache"),
)
"""Keys that are already rows, columns or seeds of a table, or that change no result."""
FILES = ("checkpoint", "pruner.densities_from")
"""Keys that name files of another run, often one per seed. Only whether they are set matters, unless runs
that are otherwise the same, and have the same seed, name different files."""
REPEATED = ("seed", *KEYS, "pruner.compression")
"""Keys that distinguish the runs of one method."""


def flatten(config: Mapping[str, Any], prefix: str = "") -> Flat:
    """Return a nested config as dotted keys; lists become text."""
    flat: Flat = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = str(value) if isinstance(value, list) else value
    return flat


def labels(asked: Sequence[tuple[str, str, str]], configs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return one name per run, such as ``synflow rounds=100`` where other runs have ``rounds=1``.

    Args:
        asked: pruner, data and model of each run.
        configs: their configs, with interpolations as they stand; empty where not known.

    A name only contains keys that vary between runs of one pruner on one data set and model, and of keys that
    vary together only the first, so that names are short.
    """
    given = [flatten(config) for config in configs]
    flats = [_of_method(flat, data) for flat, (_, data, _) in zip(given, asked, strict=True)]
    _name_files(flats, given, asked)
    telling: dict[str, list[str]] = {}
    for pruner in dict.fromkeys(pruner for pruner, _, _ in asked):
        groups: dict[tuple[str, str], list[Flat]] = {}
        for (name, data, model), flat in zip(asked, flats, strict=True):
            if name == pruner and flat:
                groups.setdefault((data, model), []).append(flat)
        keys = (key for group in groups.values() for key in _telling_keys(group))
        telling[pruner] = list(dict.fromkeys(keys))
    every = {key for keys in telling.values() for key in keys}
    names = []
    for (name, _, _), flat in zip(asked, flats, strict=True):
        told = [f"{_short(key, every, flat)}={_value(flat[key])}" for key in telling[name] if key in flat]
        names.append(" ".join([name, *told]))
    return names


def _of_method(flat: Flat, data: str) -> Flat:
    """Return the keys in which methods may differ."""
    ignored = {*NOT_METHOD, *NO_RESULT, *(() if data == "folder" else ("data.root",))}
    parents = tuple(f"{key}." for key in NO_RESULT)
    kept = {key: value for key, value in flat.items() if key not in ignored and not key.startswith(parents)}
    prunes = flat.get("pruner.criterion", "") is not None
    if prunes and any(flat.get(key) is not None for key in BUDGETS):
        kept["pruner.granularity"] = "unit"  # Budgets remove units, whatever the config has.
    return {key: "given" if key in FILES and value is not None else value for key, value in kept.items()}


def _name_files(flats: Sequence[Flat], given: Sequence[Flat], asked: Sequence[tuple[str, str, str]]) -> None:
    """Put the files of another run into ``flats`` where runs differ in nothing else, without their seeds if
    that still distinguishes them."""
    for key in FILES:
        same: dict[tuple[Any, ...], set[str]] = {}
        members: dict[tuple[str, str, str], list[int]] = {}
        for number, (flat, config, subject) in enumerate(zip(flats, given, asked, strict=True)):
            if flat.get(key) == "given":
                rest = {name: value_text(value) for name, value in flat.items()}
                rest |= {f"asked {name}": value_text(config.get(name)) for name in REPEATED}
                same.setdefault((subject, *sorted(rest.items())), set()).add(str(config[key]))
                members.setdefault(subject, []).append(number)
        for subject, numbers in members.items():
            files = [found for (of, *_), found in same.items() if of == subject]
            if all(len(found) == 1 for found in files):
                continue
            distinct = all(len(set(map(_without_seed, found))) == len(found) for found in files)
            for number in numbers:
                file = str(given[number][key])
                flats[number][key] = _without_seed(file) if distinct else file


def _without_seed(file: str) -> str:
    """Return a path without the seeds and hashes of the runs' folders in it."""
    return re.sub(r"-?seed\d+(-[0-9a-f]{10})?", "", file)


def _telling_keys(flats: Sequence[Flat]) -> list[str]:
    """Return the fewest keys, in the config's order, that distinguish all runs that differ."""
    keys = sorted(
        dict.fromkeys(key for flat in flats for key in flat),
        key=lambda key: (not key.startswith("pruner."), not key.endswith(".name"), "." in key),
    )
    found: list[str] = []
    parts = [0] * len(flats)  # the runs distinguished so far
    for key in keys:
        finer = [(part, _value(flat.get(key))) for part, flat in zip(parts, flats, strict=True)]
        numbers = {value: number for number, value in enumerate(dict.fromkeys(finer))}
        if len(numbers) > len(set(parts)):
            found.append(key)
            parts = [numbers[value] for value in finer]
    return found


def _short(key: str, others: set[str], config: Flat) -> str:
    """Return the last part of a key, the whole if another key ends alike."""
    if key.endswith(("._target_", ".name")):
        return key.rpartition(".")[0].rpartition(".")[2]
    if key.startswith("pruner.grow."):
        return key.removeprefix("pruner.")  # "at" would be unclear on its own
    last = key.rpartition(".")[2]
    others = others | {other for other in config if "." not in other}
    return key if any(other != key and other.rpartition(".")[2] == last for other in others) else last


def value_text(value: Any) -> str:
    """Return a value as it stands in a config, in one line; equal numbers give the same text."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return f"{value:.15g}" if isinstance(value, (int, float)) else plain(str(value)[:LONGEST_NAME])


def _value(value: Any) -> str:
    text = value_text(value)
    return text.rpartition(".")[2] if text.startswith("prunelit.") else text
