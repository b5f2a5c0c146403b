"""What a command line implies, and what a run is called by it."""

from __future__ import annotations

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from prunelit.study.configs import CONFIGS
from prunelit.study.identity import class_name, method, slug
from prunelit.study.overrides import completed


def config(*arguments: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", completed(list(arguments), CONFIGS))


@pytest.mark.parametrize(
    ("arguments", "called", "rounds"),
    [
        ([], "synflow", 100),
        (["pruner.criterion=mag"], "mag", 1),
        (["pruner.criterion._target_=my.Wanda"], "wanda", 1),
        (["pruner.criterion._target_=my.Wanda", "pruner.criterion.alpha=0.5"], "wanda", 1),
        (["pruner=iterative", "pruner.criterion=snip"], "iterative-snip", 1),
        (["pruner=erk", "pruner.criterion._target_=prunelit.pruning.criteria.Mag"], "erk-mag", 1),
        (["pruner=karnin", "pruner.criterion=rand", "pruner.name=karnin_rand"], "karnin_rand", 1),
    ],
)
def test_a_run_is_called_by_what_scores_it(arguments: list[str], called: str, rounds: int) -> None:
    cfg = config(*arguments)
    assert method(cfg) == called
    assert f"-{called}-" in slug(cfg)
    assert cfg.pruner.rounds == rounds


def test_an_own_class_inherits_no_argument_of_another() -> None:
    cfg = config("pruner.criterion._target_=my.Wanda", "pruner.criterion.alpha=0.5")
    assert dict(cfg.pruner.criterion) == {"_target_": "my.Wanda", "alpha": 0.5}
    cfg = config("model._target_=my.package.SmallNet", "model.width=3")
    assert dict(cfg.model) == {"name": "small_net", "_target_": "my.package.SmallNet", "width": 3}


@pytest.mark.parametrize(
    ("named", "called"),
    [("experiment=khanal_convnet", "karnin-wanda"), ("pruner=synflow", "synflow-wanda")],
)
def test_an_own_criterion_in_a_named_pruner_inherits_no_argument(named: str, called: str) -> None:
    cfg = config(
        named, "pruner.criterion._target_=my.Wanda", "pruner.criterion.alpha=0.5", "model._target_=my.Net"
    )
    assert dict(cfg.pruner.criterion) == {"_target_": "my.Wanda", "alpha": 0.5}
    assert method(cfg) == called
    assert dict(cfg.model) == {"name": "net", "_target_": "my.Net"}
    assert cfg.pruner.rounds == config(named).pruner.rounds


def test_what_an_own_class_implies_stands_beside_the_other_overrides() -> None:
    arguments = ["--config-dir", "own", "--multirun", "seed=0,1", "model._target_=my.Net"]
    assert completed(arguments, CONFIGS) == [*arguments[:-1], "model=custom", "++model._target_=my.Net"]


def test_an_own_network_in_a_named_model_is_called_by_its_class() -> None:
    cfg = config("model=mlp", "model.width=32", "model._target_=my.Noisy")
    assert (cfg.model.name, cfg.model.width) == ("noisy", 32)
    assert config("model=mlp", "model._target_=my.Noisy", "model.name=own").model.name == "own"


def test_an_experiment_keeps_its_own_pruner() -> None:
    arguments = ["experiment=khanal_convnet", "pruner.criterion=rand"]
    assert completed(arguments, CONFIGS) == arguments


PRUNERS = {path.stem for path in (CONFIGS / "pruner").glob("*.yaml")}


@pytest.mark.parametrize("name", sorted(PRUNERS))
def test_every_pruner_is_called_by_its_file(name: str) -> None:
    assert method(config(f"pruner={name}")) == name


def test_short_names_are_those_of_the_criteria_s_files() -> None:
    from prunelit.pruning import criteria

    classes = [getattr(criteria, name) for name in criteria.__all__ if name != "Criterion"]
    assert [class_name(found.__name__) for found in classes] == [
        found.__module__.rpartition(".")[2] for found in classes
    ]
