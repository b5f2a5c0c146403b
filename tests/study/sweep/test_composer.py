"""What is remembered of a request is what composing it would say, or it is composed anew."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException
from hydra.types import RunMode
from omegaconf import OmegaConf

from prunelit.request import BadRequest
from prunelit.study.configs import CONFIGS
from prunelit.study.identity import folder
from prunelit.study.sweep.composer import Composer, Request, Run


class Counting(Composer):
    """Counts what it composes."""

    composed = 0

    def compose(self, request: Request):
        self.composed += 1
        return super().compose(request)


@pytest.fixture
def begin(tmp_path: Path, monkeypatch) -> Iterator:
    """Begin a command whose configs are a copy of prunelit's in ``conf/`` and those in ``mine/``."""
    shutil.copytree(CONFIGS, tmp_path / "conf")
    mine = tmp_path / "mine" / "model"
    mine.mkdir(parents=True)
    (mine / "small.yaml").write_text("name: small\n_target_: prunelit.training.models.FC\nwidth: 10\n")
    with initialize_config_dir(str(tmp_path / "conf"), version_base="1.3"):

        def begin(*more: str) -> Counting:
            hydra = GlobalHydra.instance().hydra
            assert hydra is not None
            overrides = [f"hydra.searchpath=[file://{tmp_path / 'mine'}]", *more]
            config = hydra.compose_config("config", overrides, RunMode.MULTIRUN)
            return Counting(hydra.config_loader, config, tmp_path / "folders.json")

        yield begin


def requests(**choices: str) -> list[Request]:
    keys = [key.replace("__", ".") for key in choices]
    return [
        tuple(f"{key}={value}" for key, value in zip(keys, values, strict=True))
        for values in product(*(text.split("|") for text in choices.values()))
    ]


def plainly(composer: Composer, asked: list[Request]) -> list[Run]:
    """Compose each request by itself."""
    configs = [Composer.compose(composer, request) for request in asked]
    return [Run(r, folder(c), c.rerun) for r, c in zip(asked, configs, strict=True)]


SWEEPS = {
    "values": {"pruner": "snip|mag", "compression": "0.5|null", "seed": "0|1"},
    "groups below each other": {"model": "fc|small|mlp", "model.width": "10|20"},
    "lists": {"scheduler": "multistep", "scheduler.milestones": "[1,2]|[3]|[]"},
    "mappings": {"pruner": "grasp", "pruner.criterion": "{temperature:2.0}|{split:2}|mag"},
    "added": {"+trainer.limit_train_batches": "10|20|1.5", "seed": "1|2"},
    "added to": {"++pruner.exclude": "[fc1]|[fc2]", "++seed": "1|2"},
    "deleted": {"~optimizer.fused": "auto", "seed": "1|2"},
    "interpolated": {"name": "study${seed}|other", "seed": "1|2", "pre_epochs": "${seed}|3"},
    "the environment": {"optimizer.lr": "${oc.env:LR,0.1}|0.1|0.2", "seed": "1|2"},
    "folders": {"name": "'a b'|c/d|'é'", "output_dir": "x|'y,z'", "rerun": "true|false"},
    "odd values": {"model.name": "'a/b'|'a, b'|'ü=1'|'[x]'", "sparsity": "0.5|0.9"},
    "twice": {"seed": "1|2", "++seed": "3", "sweep.retries": "1|2", "sweep": "{retries:7}"},
    "set to nothing": {"pruner.grow.at": "random|gradient", "pruner.grow": "null"},
    "experiments": {"experiment": "butler_mnist|mikler_lenet5", "seed": "1|2", "optimizer.lr": "0.1|0.2"},
}


@pytest.mark.parametrize("choices", SWEEPS.values(), ids=SWEEPS)
def test_shortcuts_lead_where_composing_does(begin, choices: dict[str, str]) -> None:
    asked = requests(**choices)
    expected = plainly(begin(), asked)
    assert begin().runs(asked) == expected
    again = begin()
    assert again.runs(list(reversed(asked))) == list(reversed(expected))
    reads_the_environment = any("oc.env" in text for text in choices.values())
    assert (again.composed > 0) == reads_the_environment


@pytest.mark.parametrize("choices", SWEEPS.values(), ids=SWEEPS)
def test_the_config_of_a_run_is_the_composed_one(begin, choices: dict[str, str]) -> None:
    asked, composer = requests(**choices), begin()
    composer.runs(asked)
    composer.config.hydra.overrides.hydra.append("++hydra.job.env_set.LATER=1")  # as the leader does
    for request in asked:
        found, composed = composer.config_of(request), Composer.compose(composer, request)
        assert OmegaConf.to_container(found) == OmegaConf.to_container(composed)


def test_values_are_set_without_composing(begin) -> None:
    composer = begin()
    composer.runs(requests(pruner="snip|mag", compression="0.5|1|2|3", seed="|".join(map(str, range(20)))))
    assert composer.composed == 4, "the first and the last of each pruner"
    composer.config_of(("pruner=mag", "compression=2", "seed=7"))
    assert composer.composed == 4


def test_only_what_is_new_is_composed(begin) -> None:
    begin().runs(requests(seed="1|2|3"))
    composer = begin()
    found = composer.runs(requests(seed="1|2|3|4"))
    assert composer.composed == 1
    assert [run.folder.name.split("-")[-2] for run in found] == ["seed1", "seed2", "seed3", "seed4"]


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("mine/model/small.yaml", "width: 10", "width: 11"),
        ("conf/optimizer/adam.yaml", "lr: 0.001", "lr: 0.002"),
        ("conf/config.yaml", "epochs: 10", "epochs: 12"),
        ("conf/config.yaml", "- optimizer: adam", "- optimizer: adamw"),
    ],
)
def test_a_changed_config_makes_another_run(begin, tmp_path: Path, file: str, old: str, new: str) -> None:
    asked = requests(model="small", seed="1|2")
    before = begin().runs(asked)
    path = tmp_path / file
    stat = path.stat()
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a clock that stands still hides nothing
    after = begin().runs(asked)
    assert after == plainly(begin(), asked)
    assert not {run.folder for run in after} & {run.folder for run in before}


def test_a_variable_that_a_config_reads_counts(begin, tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "mine" / "model" / "small.yaml"
    path.write_text(path.read_text().replace("10", "${oc.env:WIDTH,10}"))
    asked = requests(model="small", seed="1|2")
    found = []
    for width, composed in (("10", 2), ("10", 0), ("20", 2)):
        monkeypatch.setenv("WIDTH", width)
        composer = begin()
        found.append(composer.runs(asked))
        assert found[-1] == plainly(composer, asked)
        assert composer.composed == composed
    assert found[0] == found[1] != found[2]


def test_a_config_that_reads_what_is_not_known_is_composed_each_time(begin, tmp_path: Path) -> None:
    path = tmp_path / "mine" / "model" / "small.yaml"
    path.write_text(path.read_text() + "when: ${now:%H}\n")
    for _ in range(2):
        composer = begin()
        composer.runs(requests(model="small", seed="1"))
        assert composer.composed == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"fingerprint": 3}'])
def test_a_broken_memory_is_none(begin, tmp_path: Path, content: str) -> None:
    (tmp_path / "folders.json").write_text(content)
    asked = requests(seed="1|2")
    assert begin().runs(asked) == plainly(begin(), asked)


def test_a_wrong_value_is_found_among_the_others_and_nothing_is_remembered(begin, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"^epochs=-1: "):
        begin().runs(requests(epochs="1|-1|2", seed="1|2"))
    with pytest.raises(ConfigCompositionException):
        begin().runs(requests(epochz="1|2"))
    assert not (tmp_path / "folders.json").exists()
