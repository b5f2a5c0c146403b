"""The same request is the same folder; another request is another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from prunelit.study.configs import CONFIGS
from prunelit.study.identity import config_hash, folder, slug


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


def test_where_exact_saves_its_scores_is_no_part_of_the_identity() -> None:
    saving = config("pruner=exact", "pruner.criterion.cache=scores")
    assert config_hash(saving) == config_hash(config("pruner=exact"))


def test_a_whole_number_is_the_same_float() -> None:
    assert config_hash(config("compression=1")) == config_hash(config("compression=1.0"))
    assert folder(config("compression=1")) == folder(config("compression=1.0"))


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
        "from prunelit.study.identity import slug\n"
        "with initialize_config_dir(str(CONFIGS), version_base='1.3'): print(slug(compose('config')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == slug(config())


ODD = {
    "slashes": ("data.name='../../etc/passwd'", "model.name=/"),
    "commas": ("data.name='a,b'", "data.name='a;b'"),
    "spaces": ("data.name='a b'", "data.name='a  b'"),
    "unicode": ("data.name='größe'", "data.name='grösse'"),
    "emoji": ("data.name='🪚'", "data.name='🪓'"),
    "length": (f"data.name={'x' * 300}", f"data.name={'x' * 301}"),
    "lists": ("pruner.exclude=[fc1,fc2]", "pruner.exclude=['fc1,fc2']"),
    "nested": ("+model.x={a:[1,{b:2}]}", "+model.x={a:[1,{b:3}]}"),
    "quotes": ("data.name='\"'", "data.name='`'"),
    "lines": ("data.name='a\nb'", "data.name='a\tb'"),
    "case": ("data.name=A", "data.name=a"),
    "types": ("+model.x='1'", "+model.x=1"),
    "truth": ("+model.x=true", "+model.x='true'"),
    "nothing": ("+model.x=null", "+model.x='null'"),
    "thresholds": ("pruner.threshold=[0.1,0.2]", "pruner.threshold=[0.1,0.3]"),
    "small numbers": ("optimizer.lr=1e-30", "optimizer.lr=1e-31"),
    "infinity": ("optimizer.lr=inf", "optimizer.lr=nan"),
}


@pytest.mark.parametrize("pair", ODD.values(), ids=ODD)
def test_odd_values_give_valid_short_names_that_differ(pair: tuple[str, str], tmp_path: Path) -> None:
    names = [slug(config(override)) for override in pair]
    assert names[0] != names[1]
    assert names[0].casefold() != names[1].casefold(), "on file systems that ignore case too"
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
        assert not name.startswith((".", "-"))
        assert len(name) <= 100
        (tmp_path / name).mkdir()


def test_names_of_many_runs_differ() -> None:
    cfg = config()
    names = set()
    for seed in range(50):
        for epochs in range(10):
            cfg.seed, cfg.epochs = seed, epochs
            names.add(slug(cfg))
    assert len(names) == 500


def test_runs_keep_their_folders_when_options_are_added() -> None:
    """A digit that changes here repeats every complete run of every user: see ``ADDED`` in identity.py."""
    assert slug(config("pruner=synflow", "compression=0.5")) == "digits-fc-synflow-c0.5-seed0-b04c2731ec"
