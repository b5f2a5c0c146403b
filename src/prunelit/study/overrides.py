"""Overrides of the command line: reject wrong forms, and complete those that name a criterion or class."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from hydra.conf import HydraConf
from omegaconf import DictConfig

from prunelit.former_options import present_spelling
from prunelit.request import MISSING, BadRequest, nearest

FLAGS = (
    *("--help", "--hydra-help", "--version", "--cfg", "--resolve", "--package", "--run", "--multirun"),
    *("--shell-completion", "--config-path", "--config-name", "--config-dir", "--info"),
    "--experimental-rerun",
)
POINTERS = {
    "density": "sparsity, which is 1 - density",
    "trainer.max_epochs": "epochs",
    "max_epochs": "epochs",
    "num_epochs": "epochs",
    "trainer.callbacks": "prunelit.Pruning in a Trainer of your own",
    "trainer.logger": "logger",
    "gpus": "trainer.devices",
    "trainer.gpus": "trainer.devices",
    "dataset": "data",
    "network": "model",
    "arch": "model",
    "method": "pruner",
    "method_name": "pruner",
    "criterion": "pruner.criterion",
    "learning_rate": "optimizer.lr",
    "optimizer.learning_rate": "optimizer.lr",
    "momentum": "optimizer.momentum",
    "wd": "optimizer.weight_decay",
    "bs": "batch_size",
    "num_workers": "data.workers",
    "data.num_workers": "data.workers",
    "root": "data.root",
    "ckpt": "checkpoint",
    "ckpt_path": "checkpoint",
    "out": "output_dir",
}
"""Names of keys in other tools, and the names in prunelit."""
OF_TORCHVISION = re.compile(
    r"(alexnet|convnext|densenet|efficientnet|googlenet|inception|maxvit|mnasnet|mobilenet|regnet|resnet\d|"
    r"resnext|shufflenet|squeezenet|swin|vit_|wide_resnet\d+_)"
)


SET_BY_PRUNELIT = {
    "hydra.job.chdir": ("false", "false", "paths are relative to the folder where a run is started"),
    "hydra.output_subdir": (".hydra", "left out", "reports read the config of a run in .hydra"),
    **dict.fromkeys(
        ("hydra.run.dir", "hydra.sweep.dir", "hydra.sweep.subdir"),
        ("", "left out (output_dir=... and name=... say where runs lie)", "a run has one folder"),
    ),
}
"""Keys of Hydra that would put the files of a run in two places: the value allowed, what to type, and why."""

OWN_NAME = 'model.name="${class_name:${._target_}}"'
"""The prefix of overrides that name a network after its class."""


def check_arguments(arguments: Iterable[str]) -> None:
    """Raise BadRequest for an argument that cannot be an override."""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if argument.startswith("--") and not any(flag.startswith(name) for flag in FLAGS):
            bare = name.lstrip("-").replace("-", "_")
            raise BadRequest(
                name,
                value if equals else MISSING,
                f"written {POINTERS.get(bare, bare)}=...",
                "keys have no dashes",
            )
        if argument.startswith("~"):
            why = "keys and groups cannot be removed"
            raise BadRequest(name, value if equals else MISSING, f"given a value, {name[1:]}=...", why)
        if name.lstrip("+").startswith("hydra.sweeper.params"):
            why = "sweeps are defined on the command line"
            raise BadRequest(name.lstrip("+"), value, "left out (-m seed=0,1 sweeps over seed)", why)
        if name.lstrip("+") in SET_BY_PRUNELIT:
            own, allowed, why = SET_BY_PRUNELIT[name.lstrip("+")]
            if value.strip("'\"").lower() != own:
                raise BadRequest(name.lstrip("+"), value, allowed, why)
        if name.startswith("+hydra."):
            _check_hydra_key(name.lstrip("+"), value)


def _check_hydra_key(name: str, value: str) -> None:
    """Raise BadRequest for a key below ``hydra`` that Hydra would take and ignore."""
    known = {field.name for field in fields(HydraConf)}
    if name.split(".")[1] not in known:
        raise BadRequest(name, value, nearest(name.split(".")[1], known), "Hydra has no such key")


def unparsable(arguments: Iterable[str]) -> BadRequest | None:
    """Return what is wrong with the first argument that Hydra's grammar rejects; None if nothing is wrong."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    for argument in arguments:
        if argument.startswith("-") or "=" not in argument:
            continue
        name, _, value = argument.partition("=")
        try:
            parser.parse_override(argument)
        except HydraException:
            quoted = value.replace("\\", "\\\\").replace('"', '\\"')
            try:
                parser.parse_override(f'{name}="{quoted}"')
            except HydraException:
                return None
            return BadRequest(name, value, f"quoted, for the shell as well: '{name}=\"{quoted}\"'")
    return None


def pointer(name: str, value: str, known: Sequence[str]) -> str:
    """Return what to type instead of a key that is not in the dotted keys ``known``, as a phrase."""
    if name in POINTERS:
        return f"left out (use {POINTERS[name]})"
    node, _, key = name.rpartition(".")
    if node == "pruner" and (present := present_spelling(key, value, "pruner.")):
        return f"left out (write {present})"
    same = [key for key in known if key.rpartition(".")[2] == name]
    close = same[:1] or difflib.get_close_matches(name, known, n=1)
    if close:
        return f"a key of the config (did you mean {close[0]}?)"
    group = name.rpartition(".")[0]
    siblings = [key for key in known if key.rpartition(".")[0] == group]
    return "one of " + ", ".join(siblings or [key for key in known if "." not in key])


def dotted_keys(node: DictConfig, prefix: str = "") -> list[str]:
    """Return the keys of a config, and of its nodes as ``node.key``."""
    keys = []
    for key in map(str, node):
        keys.append(f"{prefix}{key}")
        if isinstance(node._get_node(key), DictConfig) and node[key] is not None:
            keys += dotted_keys(node[key], f"{prefix}{key}.")
    return keys


def completed(arguments: list[str], configs: Path) -> list[str]:
    """Return the command line completed by what a criterion or model class, or the name of a criterion,
    implies.

    A criterion that is named without a pruner is used with the pruner's config of that name. A class of the
    user receives no arguments of another class: it is used with ``pruner=custom`` or ``model=custom``, or
    replaces the criterion of a pruner that is named or set by an experiment.
    """
    names = [argument.lstrip("+").partition("=")[0] for argument in arguments]
    composed = any(name in ("experiment", "--config-name", "-cn") for name in names)
    found = list(arguments)
    if "pruner" not in names and not composed:
        found = [_as_pruner(argument, configs) for argument in found]
    if "pruner.criterion._target_" in names:
        # The rounds and so on of a named pruner apply, but not the arguments of its criterion.
        named = composed or "pruner" in names
        found = _with_own_class(found, "pruner.criterion", "~pruner.criterion" if named else "pruner=custom")
    if "model._target_" in names:
        named = "model" in names
        found = _with_own_class(found, "model", OWN_NAME if named else "model=custom")
    return found


def _with_own_class(arguments: list[str], node: str, first: str) -> list[str]:
    """Return the arguments with ``first`` before those of a node, which set keys that the config does not
    have."""
    found = [
        f"++{text.lstrip('+')}" if text.lstrip("+").startswith(f"{node}.") else text for text in arguments
    ]
    place = next(i for i, text in enumerate(found) if text.startswith(f"++{node}."))
    return [*found[:place], first, *found[place:]]


def _as_pruner(argument: str, configs: Path) -> str:
    """Return ``pruner=mag`` for ``pruner.criterion=mag``, any other argument unchanged."""
    name, _, value = argument.partition("=")
    choices = value.split(",")
    known = all((configs / "pruner" / f"{choice}.yaml").is_file() for choice in choices)
    return f"pruner={value}" if name == "pruner.criterion" and known else argument
