"""The same request is the same folder; another request is another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from prunelit.study.command import CONFIGS
from prunelit.study.sweep.identity import config_hash, folder, slug


def config(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        return compose("config", list(overrides))


@pytest.mark.parametrize(
    "overrides",
    [
        ["compression=0.5"],
        ["compression=0.50"],
        ["output_dir=elsewhere"],
        ["name=other"],
        ["logger=csv"],
        ["rerun=true"],
        ["data.workers=3"],
        ["seed=0"],
    ],
    ids=str,
)
def test_what_cannot_change_the_result_is_no_part_of_the_identity(overrides: list[str]) -> None:
    assert config_hash(config(*overrides)) == config_hash(config())


@pytest.mark.parametrize(
    "overrides",
    [
        ["compression=1"],
        ["sparsity=0.5"],
        ["seed=1"],
        ["epochs=11"],
        ["optimizer.lr=0.01"],
        ["pruner.rounds=99"],
        ["trainer.precision=bf16-mixed"],
        ["data.size=28"],
        ["checkpoint=x.ckpt"],
    ],
    ids=str,
)
def test_what_can_change_the_result_makes_another_run(overrides: list[str]) -> None:
    assert config_hash(config(*overrides)) != config_hash(config())


def test_a_whole_number_is_the_same_float() -> None:
    assert config_hash(config("compression=1")) == config_hash(config("compression=1.0"))


def test_a_named_data_set_does_not_depend_on_where_it_lies_but_a_folder_does() -> None:
    assert config_hash(config("data=mnist", "data.root=a")) == config_hash(
        config("data=mnist", "data.root=b")
    )
    roots = [config_hash(config("data=folder", f"data.root={root}")) for root in "ab"]
    assert roots[0] != roots[1]


def test_the_dense_baseline_is_one_run_whatever_the_compression() -> None:
    assert slug(config("pruner=none", "compression=2")) == slug(config("pruner=none"))


def test_the_name_is_readable_and_safe() -> None:
    name = slug(config("sparsity=0.9", "pruner=snip", "model.name='a/b, c'", "seed=3"))
    assert re.fullmatch(r"digits-a_b_c-snip-s0\.9-seed3-[0-9a-f]{10}", name)
    assert folder(config("name=study", "output_dir=/x")).parent == Path("/x/study")


def test_the_name_is_the_same_in_another_process() -> None:
    code = (
        "from hydra import compose, initialize_config_dir; from prunelit.study.command import CONFIGS\n"
        "from prunelit.study.sweep.identity import slug\n"
        "with initialize_config_dir(str(CONFIGS), version_base='1.3'): print(slug(compose('config')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == slug(config())
