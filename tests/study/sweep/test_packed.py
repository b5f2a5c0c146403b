"""Sweeps whose runs train together: groups, lines on what is not packed, and processes that are killed."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from safetensors.numpy import load_file

from prunelit.study.configs import CONFIGS
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.isolation import SAFE
from prunelit.study.sweep.packing import PackedOptions, groups_of, why_not_packed
from prunelit.training.measuring.epochs import Epochs

pytestmark = pytest.mark.skipif(not SAFE, reason="processes are forked on Linux only")
PLAIN = {
    "model": {"_target_": "prunelit.training.models.FC"},
    "trainer": OmegaConf.load(CONFIGS / "trainer" / "default.yaml"),
    "sweep": {"timeout_minutes": None},
    "data": {"in_memory": "auto"},
}
PACKED = ("-m", "hydra/launcher=packed", "trainer=cpu", "model=mlp", "model.width=20")


def runs(*requests: str) -> list[Run]:
    return [Run(tuple(request.split()), Path(str(n)), False) for n, request in enumerate(requests)]


def groups(*requests: str, jobs: int = 1, fit: int | None = None, most: int | None = None) -> list[list[int]]:
    def fitting(config: object, memory_gb: float | None) -> int:
        return fit or 0

    options = PackedOptions(most)
    return groups_of(
        runs(*requests), lambda _: OmegaConf.create(PLAIN), options, jobs, None if fit is None else fitting
    )


def test_runs_of_a_group_differ_in_seed_pruner_and_amount() -> None:
    found = groups(
        "model=fc seed=1",
        "model=fc seed=2 pruner=snip compression=1",
        "model=mlp seed=1",
        "model=fc pruner.rounds=5 optimizer.lr=0.1",
        "model=fc optimizer=sgd",
        "model=mlp seed=2 scheduler=cosine",
    )
    assert found == [[0, 1, 3], [2, 5], [4]]


def test_groups_are_as_many_as_processes_and_as_large_as_the_memory_allows() -> None:
    seeds = [f"seed={seed}" for seed in range(10)]
    assert [len(group) for group in groups(*seeds, jobs=2)] == [5, 5]
    assert [len(group) for group in groups(*seeds, jobs=4)] == [2, 3, 3, 2]
    assert [len(group) for group in groups(*seeds, jobs=16)] == [1] * 10
    assert [len(group) for group in groups(*seeds, most=4)] == [3, 4, 3]
    assert [len(group) for group in groups(*seeds, jobs=2, fit=6)] == [2, 3, 3, 2]
    assert [len(group) for group in groups(*seeds, jobs=2, fit=1)] == [1] * 10


def test_runs_for_which_the_memory_does_not_suffice_are_named(capsys) -> None:
    assert groups("seed=1", "seed=2", fit=1) == [[0], [1]]
    assert "not packed: 2 runs: the memory has room for one of them" in capsys.readouterr().out

    def failing(config: object, memory_gb: float | None) -> int:
        raise ValueError("no such network")

    config, limits = OmegaConf.create(PLAIN), PackedOptions()
    assert groups_of(runs("seed=1", "seed=2"), lambda _: config, limits, 1, failing) == [[0], [1]]
    assert "cannot be measured (no such network)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("model._target_", "mine.Network", "model is a class of your own"),
        ("trainer.devices", 2, "trainer.devices=2"),
        ("trainer.precision", "bf16-mixed", "trainer.precision=bf16-mixed"),
        ("trainer.max_steps", 5, "trainer.max_steps=5"),
        ("sweep.timeout_minutes", 5, "sweep.timeout_minutes limits the time of each run"),
        ("data.in_memory", False, "data.in_memory=false"),
    ],
)
def test_a_config_that_rules_it_out_is_named(key: str, value: object, why: str) -> None:
    config = OmegaConf.create(PLAIN)
    assert why_not_packed(config) == ""
    OmegaConf.update(config, key, value)
    assert why_not_packed(config) == why


def test_a_wrong_limit_is_refused(cli) -> None:
    status, _, err = cli(*PACKED, "hydra.launcher.runs_per_group=0", "seed=1,2")
    assert (status, len(err)) == (2, 1)
    assert err[0].startswith("hydra.launcher.runs_per_group=0: ")


def masks() -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in Path("outputs").rglob("masks.safetensors")}


def test_the_records_are_those_of_runs_alone(cli) -> None:
    sweep = ("pruner=mag,snip", "seed=1,2", "sweep.jobs=1")
    status, out, err = cli(*PACKED, *sweep)
    assert (status, err) == (0, [])
    assert out.count("complete: ") == 4
    found = masks()
    logs = list(Path("outputs").rglob("train.log"))
    assert len(logs) == 4
    status, out, _ = cli(*PACKED, *sweep)
    assert (status, out.count("complete already: ")) == (0, 4)
    status, out, _ = cli("-m", *PACKED[2:], *sweep[:2], "output_dir=plain")
    assert status == 0
    for name, content in found.items():
        folder = Path("plain", "default", name)
        assert (folder / "masks.safetensors").read_bytes() == content
        wanted, weights = load_file(folder / "weights.safetensors"), Path("outputs", "default", name)
        for key, value in load_file(weights / "weights.safetensors").items():
            assert value == pytest.approx(wanted[key], abs=1e-5)


def test_a_group_that_is_killed_goes_on_in_smaller_groups(cli, monkeypatch) -> None:
    """The process is killed in the second epoch, once."""
    add = Epochs.add

    def killing(self, trainer, pl_module):
        if trainer.current_epoch == 1 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return add(self, trainer, pl_module)

    monkeypatch.setattr(Epochs, "add", killing)
    status, out, err = cli(*PACKED, "epochs=2", "seed=1,2,3", "sweep.jobs=1")
    assert status == 0
    assert "sweep: 3 done" in out
    assert err[0] == (
        "the process of 3 runs was killed by signal 9 (SIGKILL): its 3 incomplete runs go on from their last "
        "checkpoints, in smaller groups"
    )
    assert out.count("resumed: ") == 3
    for path in Path("outputs").rglob("status.json"):
        assert json.loads(path.read_text())["status"] == "complete"
