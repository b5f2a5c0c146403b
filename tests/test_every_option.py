"""Every key of every config group refuses what its declaration does not allow, and says so in one line."""

from __future__ import annotations

import math
import re
import types
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from annotated_types import Ge, Gt, Le, Len, Lt, Predicate
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from prunelit.declared import Option, options_of
from prunelit.request import BadRequest
from prunelit.study.checks import check
from prunelit.study.configs import CONFIGS
from prunelit.study.options import SweepOptions, TopLevel
from prunelit.study.overrides import check_arguments, dotted_keys
from prunelit.training.config.keys import check_config, nodes_of

GROUPS = ("data", "model", "pruner", "optimizer", "scheduler", "trainer", "logger")
ANY = {"pruner.criterion", "trainer.strategy"}
"""Keys that hold nodes or names, which other checks look at."""
CANDIDATES: tuple[Any, ...] = (
    *(None, True, "wrong text", "3", "no", -1, 0, 1, 1.5, -0.5, 10**12, -(10**12)),
    *(math.inf, math.nan, [], [None], ["wrong text"], [-1], {"wrong": 1}),
)


ABSENT = object()


@cache
def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", list(overrides))


def choices() -> Iterator[tuple[str, str]]:
    """Yield a choice of each group for every class that the group's files name."""
    seen: set[tuple[str, ...]] = set()
    for group in GROUPS:
        for path in sorted((CONFIGS / group).glob("*.yaml")):
            classes = (group, *re.findall(r"^\s*_target_: (\S+)", path.read_text(), re.MULTILINE))
            if classes not in seen and "???" not in classes:
                seen.add(classes)
                yield group, path.stem


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is one that a declaration allows: the slow and plain reference."""
    if get_origin(kind) is Annotated:
        plain, *rest = get_args(kind)
        return fits(value, plain) and all(_within(value, part) for part in rest)
    if get_origin(kind) in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return any(value == choice and type(value) is type(choice) for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return isinstance(value, list) and all(fits(item, get_args(kind)[0]) for item in value)
    if kind is Any:
        return True
    if kind is type(None):
        return value is None
    if kind in (int, float):
        right = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
        return right and math.isfinite(value)
    return isinstance(kind, type) and isinstance(value, kind)


def _within(value: Any, part: Any) -> bool:
    if isinstance(part, Len):
        return part.min_length <= len(value) <= (part.max_length or math.inf)
    return {
        Ge: lambda: value >= part.ge,
        Gt: lambda: value > part.gt,
        Le: lambda: value <= part.le,
        Lt: lambda: value < part.lt,
        Predicate: lambda: part.func(value),
    }.get(type(part), lambda: True)()


def declared(cfg: DictConfig) -> Iterator[tuple[str, Option]]:
    """Yield every declared key of a config with its declaration."""
    yield from options_of(TopLevel).items()
    yield from ((f"sweep.{name}", option) for name, option in options_of(SweepOptions).items())
    for node in nodes_of(cfg):
        yield from ((f"{node.path}.{name}", option) for name, option in node.options.items())


def refusal(cfg: DictConfig, key: str, value: Any) -> BadRequest | None:
    """Return how a config is refused whose ``key`` has another value."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    before = dict(node.items_ex(resolve=False)).get(name, ABSENT)
    with open_dict(node):
        node[name] = value
        try:
            check(cfg)
            check_config(cfg)
        except BadRequest as error:
            return error
        finally:
            if before is ABSENT:
                del node[name]
            else:
                node[name] = before
    return None


def is_alias(option: Option, value: Any) -> bool:
    """Whether a list is given where one pattern may stand for a list of one."""
    return option.name in ("exclude", "only") and isinstance(value, str)


@pytest.mark.parametrize("half", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_wrong_values_of_every_key_are_refused(half: int, record_property: pytest.RecordProperty) -> None:
    """Every second wrong value of each key, and the others in the slow tests."""
    tried: set[tuple[str, str]] = set()
    count, passed = 0, []
    for group, choice in choices():
        cfg = config(f"{group}={choice}")
        for key, option in declared(cfg):
            owner = str(OmegaConf.select(cfg, f"{key.rpartition('.')[0]}._target_", default=""))
            if (key, owner) in tried or key in ANY or option.name.startswith("_"):
                continue
            tried.add((key, owner))
            wrong = [v for v in CANDIDATES if not fits(v, option.kind) and not is_alias(option, v)]
            for value in wrong[(len(tried) + half) % 2 :: 2]:
                error = refusal(cfg, key, value)
                count += 1
                if error is None or error.key != key or "\n" in str(error) or "must be" not in str(error):
                    passed.append((key, value, str(error)))
    record_property("cases", count)
    print(f"{count} wrong values of {len(tried)} keys")
    assert passed == []
    assert len(tried) > 100
    assert count > 1500


def test_every_key_says_what_it_means() -> None:
    silent = set()
    for group, choice in choices():
        cfg = config(f"{group}={choice}")
        for key, option in declared(cfg):
            there = OmegaConf.select(cfg, key, default="missing") != "missing"
            if there and not option.meaning and not option.name.startswith("_"):
                silent.add(key)
    assert silent == set()


def test_a_foreign_key_is_refused_in_every_group() -> None:
    for group, choice in choices():
        cfg = config(f"{group}={choice}")
        for node in nodes_of(cfg):
            error = refusal(cfg, f"{node.path}.foreign_key", 1)
            assert node.takes_any or (error is not None and error.key == f"{node.path}.foreign_key"), (
                node.path
            )


def test_a_foreign_key_is_refused_at_the_top_level_and_in_sweep() -> None:
    cfg = config()
    for key, near in (("foreign_key", "one of seed"), ("epoch", "epochs"), ("sweep.job", "sweep.jobs")):
        error = refusal(cfg, key, 1)
        assert error is not None
        assert error.key == key
        assert near in str(error)


def test_no_key_and_no_group_can_be_removed(record_property: pytest.RecordProperty) -> None:
    keys = {key for group, choice in choices() for key in dotted_keys(config(f"{group}={choice}"))}
    assert set(GROUPS) < keys
    for key in keys:
        with pytest.raises(BadRequest, match=re.escape(f"~{key}: keys and groups cannot be removed")):
            check_arguments([f"~{key}"])
    record_property("cases", len(keys))
    print(f"{len(keys)} keys and groups removed")
