"""Every name of every group is there, composes, and trains a step."""

import warnings
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from prunelit.amount import Amount
from prunelit.request import BadRequest, PruningWarning
from prunelit.study.checks import check
from prunelit.study.configs import CONFIGS
from prunelit.training.config.keys import check_config
from prunelit.training.run.from_config import build, build_optimizer, build_pruning

NAMES = {
    "data": "digits mnist fashion_mnist cifar10 cifar100 tiny_imagenet imagenet folder",
    "model": "fc mlp conv convnet lenet300100 lenet5 vgg11 vgg13 vgg16 vgg19 vgg11_bn vgg13_bn vgg16_bn "
    "vgg19_bn vgg16_mnist resnet18 resnet20 resnet32 resnet44 resnet56 resnet110 wide_resnet20 torchvision",
    "pruner": "none rand mag snip grasp synflow exact hessian oneshot iterative lottery std "
    "l1_filter l2_filter fpgm bn_scale thinet karnin",
    "optimizer": "adam sgd momentum rmsprop adamw",
    "scheduler": "none multistep cosine exponential",
    "trainer": "default cpu gpu ddp fsdp",
    "logger": "tensorboard csv none",
}


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize(("group", "name"), [(g, n) for g, names in NAMES.items() for n in names.split()])
def test_every_promised_name_composes(group: str, name: str) -> None:
    cfg = config(f"{group}={name}")
    check(cfg)
    check_config(cfg)
    OmegaConf.to_container(cfg, resolve=True)
    if group != "trainer":
        assert cfg[group].name == name or (group, name) == ("model", "torchvision")


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))


@pytest.mark.parametrize("name", [path.stem for path in sorted((CONFIGS / "optimizer").glob("*.yaml"))])
def test_every_optimizer_lowers_a_loss(name: str) -> None:
    net = network()
    optimizer = build_optimizer(config(f"optimizer={name}"), net.parameters())
    images, labels = torch.randn(32, 1, 8, 8), torch.randint(10, (32,))
    losses = []
    for _ in range(20):
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


EXPECTED = {
    "multistep": [1.0, 1.0, 0.1, 0.1],
    "cosine": [1.0, 0.8535533905932737, 0.5, 0.14644660940672627],
    "exponential": [1.0, 0.95, 0.95**2, 0.95**3],
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_every_scheduler_sets_the_learning_rate_of_each_epoch(name: str) -> None:
    more = ["scheduler.milestones=[2]"] if name == "multistep" else []
    cfg = config(f"scheduler={name}", "epochs=4", *more)
    optimizer = torch.optim.SGD(network().parameters(), lr=1.0)
    scheduler = build(cfg.scheduler, optimizer=optimizer)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(EXPECTED[name])
    assert build(config("scheduler=none").scheduler) is None


PRUNERS = sorted((CONFIGS / "pruner").glob("*.yaml"))


@pytest.mark.parametrize("path", PRUNERS, ids=lambda path: path.stem)
def test_every_pruner_says_its_name_and_builds(path: Path) -> None:
    cfg = config(f"pruner={path.stem}")
    assert cfg.pruner.name == path.stem
    if cfg.pruner.densities_from is not None:
        with pytest.raises(BadRequest, match=r"pruner\.densities_from="):
            build_pruning(cfg, Amount())
        return
    with warnings.catch_warnings():  # of options that change nothing
        warnings.simplefilter("error", PruningWarning)
        pruning = build_pruning(cfg, Amount(None if cfg.pruner.pattern else 0.5))
    assert (pruning is None) == (path.stem == "none")


def test_every_logger_writes_what_it_is_for(tmp_path: Path) -> None:
    written = {}
    for name in ("tensorboard", "csv"):
        logger = build(config(f"logger={name}").logger, save_dir=str(tmp_path), name="", version=name)
        logger.log_metrics({"a": 1.0}, step=0)
        logger.save()
        logger.finalize("success")
        written[name] = [file.name for file in (tmp_path / name).iterdir()]
    assert any(file.startswith("events") for file in written["tensorboard"])
    assert "metrics.csv" in written["csv"]
    assert build(config("logger=none").logger) is None
