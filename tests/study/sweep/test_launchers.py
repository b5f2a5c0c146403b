"""What launchers say of themselves in their yaml, and what a sweep makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from prunelit.request import BadRequest
from prunelit.study.configs import CONFIGS
from prunelit.study.sweep.isolation import SAFE
from prunelit.study.sweep.launchers import LauncherKind, sweep_of

LAUNCHERS = sorted(path.stem for path in (CONFIGS / "hydra" / "launcher").glob("*.yaml"))
FIRST = OmegaConf.create(
    {
        "trainer": {"accelerator": "cpu", "devices": 1},
        "sweep": {"isolate": True, "wait": True, "jobs": 2, "runs_per_gpu": 1},
    }
)


def test_there_is_a_yaml_for_each_launcher_that_is_used() -> None:
    assert {"basic", "joblib", "packed", "plain", "submitit_local", "submitit_slurm"} <= set(LAUNCHERS)


@pytest.mark.filterwarnings("ignore:.*is validated against ConfigStore schema")
@pytest.mark.parametrize("name", LAUNCHERS)
def test_each_launcher_says_what_it_is(name: str) -> None:
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = compose("config", [f"hydra/launcher={name}"], return_hydra_config=True)
    kind = LauncherKind.of(config)
    assert set(config.hydra.env.launcher) == set(vars(kind)), "a launcher of prunelit's own says everything"
    assert set(kind.reads) <= {"n_jobs", "submitit_folder", "runs_per_group", "memory_gb"}
    assert not (kind.packs and not kind.forks)
    assert not (kind.cluster and (kind.forks or kind.shares_machine))


def foreign(target: str, folder: Path, **declared: object) -> DictConfig:
    """Return Hydra's config with a launcher of a user's own."""
    hydra = {"launcher": {"_target_": target}, "sweep": {"dir": str(folder)}, "overrides": {"hydra": []}}
    return OmegaConf.create({"hydra": hydra | {"env": {"launcher": declared} if declared else {}}})


@pytest.mark.parametrize("target", ["mine.basic_gpu.Launcher", "mine.SlurmLike", "mine.SubmititLauncher"])
def test_a_launcher_that_says_nothing_leases_devices_and_starts_its_own_processes(
    target: str, tmp_path: Path
) -> None:
    sweep = sweep_of(foreign(target, tmp_path), FIRST, num_runs=3)
    assert (sweep.shared, sweep.pooled, sweep.cluster, sweep.jobs) == (True, False, False, 2)
    assert sweep.isolate == SAFE


def test_a_launcher_of_a_user_s_own_is_what_it_says(tmp_path: Path) -> None:
    sweep = sweep_of(foreign("mine.Launcher", tmp_path, cluster=True), FIRST, num_runs=3)
    assert (sweep.shared, sweep.pooled, sweep.cluster, sweep.jobs) == (False, False, True, 1)
    alone = sweep_of(foreign("mine.Slurm", tmp_path, shares_machine=False), FIRST, num_runs=3)
    assert (alone.shared, alone.cluster, alone.jobs) == (False, False, 1)


@pytest.mark.parametrize(("key", "value"), [("clusters", True), ("forks", "maybe"), ("reads", 3)])
def test_a_wrong_declaration_is_refused(key: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(BadRequest) as refused:
        sweep_of(foreign("mine.Launcher", tmp_path, **{key: value}), FIRST, num_runs=3)
    assert (refused.value.key, refused.value.value) == (f"hydra.env.launcher.{key}", value)


@pytest.mark.skipif(not SAFE, reason="processes are forked on Linux only")
@pytest.mark.parametrize(
    ("launcher", "key"),
    [("submitit_local", "timeout_min"), ("submitit_local", "mem_gb"), ("joblib", "batch_size")],
)
def test_keys_that_would_be_ignored_are_refused(cli, launcher: str, key: str) -> None:
    status, out, err = cli("-m", f"hydra/launcher={launcher}", f"hydra.launcher.{key}=3", "seed=1,2")
    assert (status, out, len(err)) == (2, "", 1)
    assert err[0].startswith(f"hydra.launcher.{key}=3: ")
    assert "hydra.launcher.n_jobs or hydra.launcher.submitit_folder" in err[0]
    assert not Path("outputs").exists()
