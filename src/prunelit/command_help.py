"""The help of ``python -m prunelit.train``, and of the groups and keys that a command line names."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from prunelit.declared import options_of
from prunelit.request import MISSING, BadRequest, nearest
from prunelit.study.configs import CONFIGS
from prunelit.study.options import SweepOptions, TopLevel
from prunelit.study.overrides import completed
from prunelit.study.whole_words import wrapped

PROGRAM = "python -m prunelit.train"
EXAMPLES = (
    ("pruner=snip sparsity=0.9", "Remove 90 % of the weights by their SNIP scores, then train the rest."),
    (
        "data=cifar10 model=resnet20 pruner=gmp sparsity=0.95",
        "Prune a ResNet-20 by magnitude, gradually during training.",
    ),
    (
        "-m pruner=mag,synflow sparsity=0.5,0.9 seed=0,1,2",
        "Sweep over methods, amounts and seeds: 12 runs.",
    ),
)
GROUPS = {
    "pruner": "How weights are scored and removed.",
    "model": "The network.",
    "data": "The images.",
    "optimizer": "How weights are trained.",
    "scheduler": "How the learning rate changes.",
    "trainer": "Devices, precision and further options of Lightning's Trainer.",
    "logger": "Where Lightning logs curves, in addition to prunelit's own record.",
    "experiment": "A published experiment: sets several groups and keys at once.",
}
"""What each group of the config decides."""


def show(arguments: Sequence[str]) -> None:
    """Print the help of the groups and keys that a command line names, or of the program if it names none.

    Raises:
        BadRequest: a key does not exist. Hydra's own errors are raised as they are.
    """
    logging.getLogger("hydra").addHandler(logging.NullHandler())  # the raised error contains the message
    words = [argument for argument in arguments if not argument.startswith("-")]
    overrides = [word for word in words if "=" in word]
    chosen = dict(word.lstrip("+").split("=", 1) for word in overrides)
    sections: list[str] = []
    for name in dict.fromkeys(word.lstrip("+").partition("=")[0] for word in words):
        if name in options_of(TopLevel) or name.partition(".")[0] == "sweep":
            lines = _declared(name)
        elif name in GROUPS and name not in chosen:
            lines = _choices(name)
        elif name == "experiment":
            lines = _experiment(chosen[name])
        elif name.partition(".")[0] in GROUPS:
            lines = _keys(name, chosen, overrides)
        else:
            lines = iter(())
        sections += ["\n".join(lines)]
    print("\n\n".join(filter(None, sections)) or "\n".join(_general()))


def _general() -> Iterator[str]:
    yield f"usage: {PROGRAM} [-m] [KEY=VALUE ...]"
    yield ""
    yield wrapped("Prune and train an image classifier, and record the results in outputs/.")
    yield ""
    yield "Examples:"
    for arguments, meaning in EXAMPLES:
        yield wrapped(f"{PROGRAM} {arguments}", 2)
        yield wrapped(meaning, 6)
    yield ""
    yield wrapped("Groups, selected with GROUP=NAME:")
    for group, meaning in GROUPS.items():
        yield wrapped(f"{group:12}{meaning}", 2)
    yield ""
    yield "Keys at the top level:"
    for name, option in options_of(TopLevel).items():
        yield from _key(name, _written(option.default), option.expected, option.meaning)
    yield ""
    yield "Further help:"
    for arguments, meaning in (
        ("pruner --help", "The choices of a group, with one line for each."),
        ("pruner=synflow --help", "All keys of a choice: meaning, allowed values and default."),
        ("pruner.rounds --help", "One key."),
        ("sweep --help", "How sweeps and their runs are executed."),
        ("--hydra-help", "The flags of Hydra, which composes the config."),
    ):
        yield f"  {PROGRAM} {arguments}"
        yield wrapped(meaning, 6)
    yield wrapped("docs/configuration.md lists every key of every choice.", 2)


def _declared(name: str) -> Iterator[str]:
    """Yield the help of a key at the top level or of ``sweep``, or of all keys of ``sweep``."""
    options = {
        **options_of(TopLevel),
        **{f"sweep.{key}": option for key, option in options_of(SweepOptions).items()},
    }
    found = [key for key in options if key == name or key.startswith(f"{name}.")]
    if not found:
        raise BadRequest(name, MISSING, nearest(name, options), "there is no such key")
    for key in found:
        option = options[key]
        yield from _key(key, _written(option.default), option.expected, option.meaning)


def _choices(group: str) -> Iterator[str]:
    """Yield the choices of a group, with the first comment of each file."""
    yield wrapped(f"{group}: {GROUPS[group]}")
    for path in sorted((CONFIGS / group).glob("*.yaml")):
        yield f"  {group}={path.stem}"
        yield wrapped(_comment(path), 6)
    yield ""
    yield wrapped(f"{PROGRAM} {group}=NAME --help explains the keys of a choice.")


def _experiment(choice: str) -> Iterator[str]:
    """Yield the description of an experiment, and the keys that it sets."""
    group, known = "experiment", sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
    if choice not in known:
        raise BadRequest(group, choice, nearest(choice, known))
    path = CONFIGS / group / f"{choice}.yaml"
    yield wrapped(f"{group}={choice}: {_comment(path)}")
    values: Any = OmegaConf.to_container(OmegaConf.load(path))
    for default in values.pop("defaults", []):
        yield from (f"  {key.rpartition('/')[2]}={value}" for key, value in default.items())
    yield from (f"  {key}={_written(value)}" for key, value in _flat(values))


def _flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _keys(name: str, chosen: dict[str, str], overrides: Sequence[str]) -> Iterator[str]:
    """Yield the help of a group's keys, or of those at and below one key, with the values that they have."""
    from prunelit.reference import compose, rows_of_group  # its imports take seconds

    group, _, key = name.partition(".")
    rows = rows_of_group(compose(*completed(list(overrides), CONFIGS)), group)
    found = [row for row in rows if not key or row.key == name or row.key.startswith(f"{name}.")]
    if not found:
        known = [row.key for row in rows]
        raise BadRequest(name, chosen.get(name, MISSING), nearest(name, known), "there is no such key")
    if not key:
        choice = chosen[name]
        yield wrapped(f"{name}={choice}: {_comment(CONFIGS / group / f'{choice}.yaml')}")
    for row in found:
        yield from _key(row.key, row.default, row.expected, row.meaning)


def _key(name: str, value: str, expected: str, meaning: str) -> Iterator[str]:
    """Yield a key with its value as on the command line, then its meaning and its allowed values."""
    typed = value.replace("`", "").replace(", ", ",")
    yield f"  {name}" if " " in typed else f"  {name}={typed}"
    yield wrapped(f"{meaning} Must be {expected}.".replace("`", ""), 6)


def _written(value: Any) -> str:
    """Return a value as it is typed on a command line."""
    return json.dumps(value) if value in (None, True, False) else str(value)


def _comment(path: Path) -> str:
    """Return the first comment of a config file; empty if the file is not part of prunelit."""
    lines = path.read_text().splitlines() if path.is_file() else []
    comment = [line[1:].strip() for line in takewhile(lambda line: line.startswith("#"), lines)]
    return " ".join(line for line in comment if not line.startswith(("@package", "python -m")))
