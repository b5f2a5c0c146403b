"""Checks of a composed config before any work; they need no data, network or device."""

from __future__ import annotations

from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from prunelit.amount import SETS_DENSITY, Amount, sets_density
from prunelit.declared import options_of
from prunelit.request import BadRequest, within
from prunelit.study.from_environment import explaining_text
from prunelit.study.options import SweepOptions, TopLevel
from prunelit.study.overrides import SET_BY_PRUNELIT, dotted_keys, pointer

LONGEST_NAME = 255
"""Maximum length of a folder name in bytes on common file systems."""

GROUPS = ("data", "model", "pruner", "optimizer", "scheduler", "trainer", "logger")
"""The groups that make the parts of a run."""


def check(cfg: DictConfig) -> None:
    """Raise BadRequest for the first wrong value in the config."""
    for key in GROUPS:
        if not isinstance(cfg.get(key), DictConfig):
            raise BadRequest(key, cfg.get(key), f"the name of a file in conf/{key}")
    if not isinstance(cfg.get("sweep"), DictConfig):
        raise BadRequest("sweep", cfg.get("sweep"), "left out (sweep.jobs=2 sets one of its keys)")
    check_names(cfg)
    check_node(cfg, TopLevel)
    with within("sweep", cfg.sweep):
        check_node(cfg.sweep, SweepOptions)
    check_name(str(cfg.name))
    check_amount(cfg)
    if HydraConfig.initialized() and HydraConfig.get().job.chdir:  # by a config of the user's
        raise BadRequest("hydra.job.chdir", True, *SET_BY_PRUNELIT["hydra.job.chdir"][1:])


def check_names(cfg: DictConfig) -> None:
    """Raise BadRequest for a key at the top level or of ``sweep`` that nothing reads."""
    of_sweep = [f"sweep.{name}" for name in options_of(SweepOptions)]
    known = {*options_of(TopLevel), *GROUPS, "sweep", "hydra", *of_sweep}
    for key in (*map(str, cfg), *(f"sweep.{name}" for name in cfg.sweep)):
        if key not in known:
            others = [name for name in dotted_keys(cfg) if name.partition(".")[0] in known and name != key]
            value = OmegaConf.select(cfg, key)
            raise BadRequest(key, value, pointer(key, str(value), others), "there is no such key")


def check_node(node: DictConfig, owner: Any) -> None:
    """Check the values of a config's node against what ``owner`` declares."""
    for key, option in options_of(owner).items():
        if key not in node:
            raise BadRequest(key, None, option.expected, "the key was removed")
        with explaining_text(node, key):
            option.check(node[key])


def check_name(name: str) -> None:
    """Raise BadRequest unless ``name`` can be the folder of a study."""
    if not name or name.startswith((".", "/")) or ".." in name:
        raise BadRequest("name", name, "a name for a folder, such as baseline or cifar10/baseline")
    if max(len(part.encode()) for part in name.split("/")) > LONGEST_NAME:
        raise BadRequest("name", name, f"a name of at most {LONGEST_NAME} bytes")


def check_amount(cfg: DictConfig) -> None:
    """Raise BadRequest unless at most one amount is given and allowed for the pruner."""
    given = Amount.at_top_level(cfg)
    if given.is_decided:
        Amount.of(cfg)
    elif sets_density(cfg.pruner):
        key = next(key for key in SETS_DENSITY if cfg.pruner.get(key) is not None)
        why = f"pruner.{key}={cfg.pruner[key]} sets the density"
        raise BadRequest(*given.given, "left out", why)
