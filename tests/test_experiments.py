"""Every published experiment composes, passes the checks and builds what it trains."""

from __future__ import annotations

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from prunelit.amount import Amount
from prunelit.study.checks import check
from prunelit.study.configs import CONFIGS
from prunelit.study.identity import config_hash
from prunelit.training.run import from_config

EXPERIMENTS = sorted(path.stem for path in (CONFIGS / "experiment").glob("*.yaml"))
BUTLER = [name for name in EXPERIMENTS if name.startswith("butler")]


def composed(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_it_builds_its_network_optimizer_and_pruner(experiment: str) -> None:
    cfg = composed(f"experiment={experiment}")
    check(cfg)
    assert cfg.name == experiment, "the study's folder is called after the experiment"
    data = from_config.build_data(cfg)
    preview = data.preview()
    assert preview is not None
    network, num_classes = from_config.build_network(cfg, data)
    assert network.train()(torch.zeros(2, *preview[1])).shape == (2, num_classes)
    optimizer = from_config.build_optimizer(cfg, network.parameters())
    assert optimizer.param_groups[0]["lr"] == cfg.optimizer.lr
    pruning = from_config.build_pruning(cfg, Amount.of(cfg))
    assert pruning is not None
    pruning.check(network)


@pytest.mark.parametrize("pruner", ["synflow", "mag", "snip", "grasp", "rand"])
@pytest.mark.parametrize("experiment", BUTLER)
def test_the_pruner_can_be_chosen_and_prunes_in_one_round(experiment: str, pruner: str) -> None:
    cfg = composed(f"experiment={experiment}", f"pruner={pruner}", "compression=2")
    check(cfg)
    assert cfg.pruner.name == pruner
    pruning = from_config.build_pruning(cfg, Amount.of(cfg))
    assert pruning is not None
    assert pruning.plan.rounds == 1
    assert pruning.density == pytest.approx(0.01)


def test_one_word_on_the_command_line_overrules_an_experiment() -> None:
    """As in butler_cifar10 with the method's own hundred rounds."""
    published, ours = (composed("experiment=butler_cifar10", *more) for more in ((), ("pruner.rounds=100",)))
    assert (published.pruner.rounds, ours.pruner.rounds) == (1, 100)
    assert config_hash(published) != config_hash(ours)


def test_mikler_s_biases_compete_with_the_weights() -> None:
    """266,610 and 61,706 parameters: the sums of the report's figures 6 and 7."""
    for experiment, published in (("mikler_lenet300100", 266_610), ("mikler_lenet5", 61_706)):
        cfg = composed(f"experiment={experiment}")
        network, _ = from_config.build_network(cfg, from_config.build_data(cfg))
        pruning = from_config.build_pruning(cfg, Amount.of(cfg))
        assert pruning is not None
        assert sum(p.numel() for p in pruning.selection.of(network).values()) == published
