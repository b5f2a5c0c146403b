"""Options with a former name end with one line that names the present one."""

from __future__ import annotations

from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from prunelit import BadRequest, Growth, L1Filter, Mag, Plan, Pruning, Timing
from prunelit.study.configs import CONFIGS
from prunelit.study.overrides import pointer
from prunelit.training.config.keys import check_config


@pytest.mark.parametrize(
    ("options", "present"),
    [
        ({"scope": "2:4"}, "pattern='2:4'"),
        ({"scope": "like"}, "layer_densities={name: density}"),
        ({"mask_from": "run"}, "layer_densities={name: density}"),
        ({"grow": "gradient"}, "grow=Growth(at='gradient')"),
        ({"decay": "cosine"}, "grow=Growth(decay='cosine')"),
        ({"stop": 0.5}, "grow=Growth(stop=0.5)"),
        ({"regrow": True}, "grow=Growth(regrow=True)"),
    ],
    ids=str,
)
def test_former_arguments_name_the_present_ones(options: dict[str, Any], present: str) -> None:
    makers = [Plan] if "scope" in options else []
    for make in (*makers, lambda **given: Pruning(Mag(), compression=1, **given)):
        with pytest.raises(BadRequest) as refused:
            make(**options)
        assert refused.value.key in options
        assert str(refused.value).endswith(f" {present})")


@pytest.mark.parametrize(
    ("key", "value", "present"),
    [
        ("scope", "2:4", "pruner.pattern=2:4"),
        ("scope", "like", "pruner.densities_from=RUN"),
        ("mask_from", "run", "pruner.densities_from=RUN"),
        ("grow", "random", "pruner.grow.at=random"),
        ("decay", "cosine", "pruner.grow.decay=cosine"),
        ("stop", 0.5, "pruner.grow.stop=0.5"),
        ("regrow", True, "pruner.grow.regrow=true"),
    ],
)
def test_former_keys_name_the_present_ones(key: str, value: Any, present: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", [f"++pruner.{key}={value}"])
    with pytest.raises(BadRequest) as refused:
        check_config(cfg)
    assert refused.value.key == f"pruner.{key}"
    assert str(refused.value).endswith(f" {present})")
    if key not in ("scope", "grow"):  # Hydra itself knows no such key, unless ++ adds it
        assert pointer(f"pruner.{key}", str(value).lower(), list) == f"left out (write {present})"


def test_options_are_given_by_name_or_as_a_whole_part() -> None:
    whole = Pruning(Mag(), compression=1, plan=Plan(rounds=3), timing=Timing(when="epoch"), every=2)
    named = Pruning(Mag(), compression=1, rounds=3, when="epoch", every=2)
    assert (whole.plan, whole.timing, whole.steps) == (named.plan, named.timing, named.steps)
    growing = Pruning(Mag(), compression=1, grow={"at": "random", "every": 2})
    assert growing.growth == Growth(at="random", every=2)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"rounds": 2, "plan": Plan(rounds=3)}, "rounds=2: .*rounds=3"),
        ({"plan": Timing()}, r"plan=Timing\(.*: .*\bPlan"),
        ({"grow": 3}, "grow=3: .*Growth"),
        ({"pattern": "2:4", "threshold": 0.1}, "threshold=0.1: pattern=2:4 "),
        ({"pattern": "2:4", "layer_densities": {"w": 0.5}}, "pattern=2:4: .*layer_densities"),
        ({"pattern": "2:4", "rounding": "up"}, "rounding=up: .*nearest"),
        ({"pattern": "2:4", "sparsity": 0.7}, "sparsity=0.7: pattern=2:4 is given too"),
        ({"threshold": 0.1, "sparsity": 0.7}, "sparsity=0.7: threshold=0.1 is given too"),
        ({"layer_densities": {"w": 0.5}, "flops": 0.7}, "layer_densities=.*granularity is unit"),
        ({"layer_densities": {"w": 0.5}, "compression": 1}, "compression=1: layer_densities is given too"),
        ({"sparsity": 0.5, "seed": "a"}, "seed='a': must be an integer"),
        ({"sparsity": 0.5, "seed": 1.5}, "seed=1.5: must be an integer"),
        ({"sparsity": 0.5, "seed": None}, "seed=null: must be an integer"),
        ({"sparsity": 0.5, "network": 3}, "network=3: must be the dotted name"),
        ({}, "compression=null: .*must be a number"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(BadRequest, match=f"^{line}"):
        Pruning(Mag(), **options)


def test_whole_filters_take_no_pattern_and_no_growth() -> None:
    with pytest.raises(BadRequest, match=r"^pattern=2:4: "):
        Pruning(L1Filter(), pattern="2:4")
    with pytest.raises(BadRequest, match=r"^grow\.at=random: "):
        Pruning(L1Filter(), compression=1, grow=Growth(at="random"))
