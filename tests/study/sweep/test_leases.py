"""Which devices there are, and that none is used twice."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from omegaconf import OmegaConf

from prunelit.study.configs import CONFIGS
from prunelit.study.devices import parse_listing, visible_gpus
from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.launchers import sweep_of
from prunelit.study.sweep.leader import trainers_of
from prunelit.study.sweep.leases import gpus_wanted, leased
from prunelit.study.sweep.machine_share import machine_share
from prunelit.study.sweep.state import Sweep

LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-c6d4f1ef-42e4-6de3-91c7-45d71c87eb3f)
  MIG 3g.20gb     Device  0: (UUID: MIG-b00d5bcf-0a52-5c6b-9e30-7a1a0b6d5d9a)
  MIG 3g.20gb     Device  1: (UUID: MIG-5b0e1f5c-1c6e-5d2f-8c2b-d1ad5a0f7c11)
GPU 2: NVIDIA A100-SXM4-40GB (UUID: GPU-a1b2c3d4-0000-1111-2222-333344445555)
"""
FIRST, THIRD = "GPU-5d5ba0d6-d33d-2b2c-524d-9e3d8d2b8a77", "GPU-a1b2c3d4-0000-1111-2222-333344445555"
PARTS = ("MIG-b00d5bcf-0a52-5c6b-9e30-7a1a0b6d5d9a", "MIG-5b0e1f5c-1c6e-5d2f-8c2b-d1ad5a0f7c11")


def test_a_divided_gpu_is_several_devices() -> None:
    assert parse_listing(LISTING) == {"0": FIRST, **{part: part for part in PARTS}, "2": THIRD}
    assert parse_listing("No devices found.\n") == {}


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        (None, [FIRST, *PARTS, THIRD]),
        ("2", ["2"]),
        ("2,0", ["2", "0"]),
        ("GPU-a1b2", ["GPU-a1b2"]),
        (PARTS[1], [PARTS[1]]),
        ("0,-1,2", ["0"]),
        ("", []),
        ("NoDevFiles", []),
    ],
)
def test_the_variable_says_which_devices_may_be_used(asked: str | None, names: list[str]) -> None:
    found = visible_gpus(parse_listing(LISTING), asked)
    assert list(found) == names
    assert set(found.values()) <= {FIRST, THIRD, *PARTS}


@pytest.mark.parametrize(
    ("accelerator", "devices", "available", "wanted"),
    [
        ("auto", 1, 4, 1),
        ("gpu", 2, 4, 2),
        ("gpu", 8, 4, 4),
        ("gpu", -1, 4, 4),
        ("auto", "auto", 4, 4),
        ("gpu", [2, 3], 4, 0),
        ("cpu", 1, 4, 0),
        ("auto", 1, 0, 0),
    ],
)
def test_how_many_devices_a_run_wants(accelerator: str, devices, available: int, wanted: int) -> None:
    trainer = OmegaConf.create({"accelerator": accelerator, "devices": devices})
    assert gpus_wanted(trainer, available) == wanted


HOLD = """
import sys, time
from pathlib import Path
from prunelit.study.sweep.leases import leased

with leased(sys.argv[5:], int(sys.argv[2]), Path(sys.argv[1]), int(sys.argv[4])) as names:
    start = time.time()
    time.sleep(float(sys.argv[3]))
    print(start, time.time(), *names, flush=True)
"""


def hold(
    folder: Path, count: int, seconds: float, names: str = "abc", sharers: int = 1
) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), str(count), str(seconds), str(sharers), *names]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def is_taken(path: Path) -> bool:
    try:
        with FileLock(path, timeout=0):
            return False
    except Timeout:
        return True


def test_no_device_is_held_twice_at_a_time(tmp_path: Path) -> None:
    """More processes than devices, some of which want two."""
    processes = [hold(tmp_path, count, 0.3) for count in (1, 2, 1, 1, 3, 2, 1)]
    spans: dict[str, list[tuple[float, float]]] = {}
    for process, count in zip(processes, (1, 2, 1, 1, 3, 2, 1), strict=True):
        start, end, *names = process.communicate(timeout=600)[0].split()
        assert len(set(names)) == count
        for name in names:
            spans.setdefault(name, []).append((float(start), float(end)))
    assert set(spans) == {"a", "b", "c"}
    for held in spans.values():
        held.sort()
        assert all(end <= start for (_, end), (start, _) in pairwise(held))


def test_who_waits_for_one_device_keeps_nobody_from_another(tmp_path: Path) -> None:
    with leased(["a"], 1, tmp_path):
        waiting = hold(tmp_path, 1, 0, "a")
        while not any(map(is_taken, tmp_path.glob("*queue*"))):
            time.sleep(0.05)
        told, _ = hold(tmp_path, 1, 0, "b").communicate(timeout=600)
        assert told.split()[2:] == ["b"]
        assert waiting.poll() is None
    assert waiting.communicate(timeout=600)[0].split()[2:] == ["a"]


def test_a_crash_releases_its_devices(tmp_path: Path) -> None:
    process = hold(tmp_path, 3, 60)
    while not (tmp_path / "c.lock").exists():
        time.sleep(0.05)
    process.kill()
    process.communicate()
    with leased(["a", "b", "c"], 3, tmp_path) as names:
        assert names == ["a", "b", "c"]


def test_as_many_as_asked_share_a_device_and_none_of_them_with_one_that_wants_it_alone(
    tmp_path: Path,
) -> None:
    with leased(["a"], 1, tmp_path, sharers=2) as first, leased(["a"], 1, tmp_path, sharers=2) as second:
        assert first == second == ["a"]
        third, alone = hold(tmp_path, 1, 0, "a", sharers=2), hold(tmp_path, 1, 0, "a")
        time.sleep(1)
        assert third.poll() is alone.poll() is None
    assert [third.wait(120), alone.wait(120)] == [0, 0]
    with leased(["a"], 1, tmp_path):
        third = hold(tmp_path, 1, 0, "a", sharers=2)
        time.sleep(1)
        assert third.poll() is None
    assert third.wait(120) == 0


@pytest.mark.parametrize(
    ("asked", "devices", "num_gpus", "each", "jobs"),
    [
        (8, 1, 1, 1, 1),
        (8, 2, 4, 1, 2),
        (2, 1, 4, 1, 2),
        (8, 1, 0, 1, 8),
        (None, 1, 4, 1, 4),
        (None, 1, 2, 3, 6),
    ],
)
def test_no_more_runs_side_by_side_than_the_gpus_take(
    asked: int | None, devices: int, num_gpus: int, each: int, jobs: int, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(
        "prunelit.study.sweep.launchers.gpus", lambda: {str(n): f"GPU-{n}" for n in range(num_gpus)}
    )
    assert jobs_of(tmp_path, asked, each, devices=devices) == jobs
    assert ("8 parallel runs were requested" in capsys.readouterr().out) == (
        asked is not None and jobs < asked
    )


@pytest.mark.parametrize(
    ("asked", "threads", "jobs"),
    [(None, 2, 4), (None, 3, 2), (8, 4, 2), (2, 4, 2), (3, 16, 1), (None, None, 8)],
)
def test_runs_side_by_side_have_no_more_threads_than_there_are_cores(
    asked: int | None, threads: int | None, jobs: int, tmp_path: Path, monkeypatch, capsys
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("prunelit.study.sweep.launchers.gpus", dict)
    assert jobs_of(tmp_path, asked, 1, accelerator="cpu", threads=threads) == jobs
    reduced = f"{asked} parallel runs were requested; {jobs} run at a time"
    assert (reduced in capsys.readouterr().out) == (asked is not None and jobs < asked)


@pytest.mark.parametrize(
    ("devices", "threads", "asked", "jobs"),
    [(2, None, None, 4), (4, None, None, 2), (2, 2, 8, 2), (16, None, None, 1)],
)
def test_the_processes_of_runs_with_several_have_a_core_each(
    devices: int, threads: int | None, asked: int | None, jobs: int, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr("prunelit.study.sweep.launchers.gpus", dict)
    trainer = {"accelerator": "cpu", "devices": devices, "threads": threads}
    assert jobs_of(tmp_path, asked, 1, **trainer) == jobs


def test_the_largest_number_of_threads_in_a_sweep_counts() -> None:
    requests = [(f"trainer.threads={threads}", f"seed={seed}") for threads in (1, 4) for seed in range(3)]
    runs = [Run(request, Path(str(number)), False) for number, request in enumerate(requests)]
    trainers = trainers_of(runs, lambda request: OmegaConf.from_dotlist(list(request)))
    assert [trainer.threads for trainer in trainers] == [1, 4]


def test_more_devices_than_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 of 2 devices"), leased(["a", "b"], 3, tmp_path):
        pass


def jobs_of(folder: Path, asked: int | None, runs_per_gpu: int, **trainer: object) -> int:
    """The number of runs side by side in a sweep of 20 with the joblib launcher."""
    launcher = {
        "_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher",
        "n_jobs": -1,
    }
    kind = CONFIGS / "hydra" / "launcher" / "kind" / "side_by_side.yaml"
    env = {"launcher": OmegaConf.load(kind)}
    overrides = {"hydra": []}
    hydra = OmegaConf.create(
        {"hydra": {"launcher": launcher, "env": env, "overrides": overrides, "sweep": {"dir": str(folder)}}}
    )
    of_sweep = {"jobs": asked, "runs_per_gpu": runs_per_gpu, "isolate": True, "wait": True}
    return sweep_of(hydra, OmegaConf.merge(config(**trainer), {"sweep": of_sweep}), num_runs=20).jobs


def config(**trainer):
    asked = {"accelerator": "auto", "devices": 1} | trainer
    return OmegaConf.create({"trainer": asked, "sweep": {"runs_per_gpu": 1}})


def test_runs_side_by_side_see_different_gpus(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,0,1")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sweep = Sweep(tmp_path, jobs=2, shared=True, gpus={"2": "GPU-c", "0": "GPU-a", "1": "GPU-b"})
    with machine_share(config(), sweep) as threads, machine_share(config(devices=2), sweep):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
        assert threads == max(1, len(os.sched_getaffinity(0)) // 2)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2,0,1"


def test_a_run_on_the_cpu_leases_no_gpu_but_its_share_of_the_cores(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    sweep = Sweep(tmp_path, jobs=2, shared=True, gpus={"0": "GPU-a"})
    with machine_share(config(accelerator="cpu"), sweep) as threads:
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
        assert threads == 4
    with machine_share(config(accelerator="cpu", devices=2), sweep) as threads:
        assert threads == 4, "the run shares them out to its ranks"
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with machine_share(config(accelerator="cpu"), sweep) as threads:
        assert threads is None, "the user has said how many"
    with machine_share(config(), Sweep(tmp_path)) as threads:
        assert threads is None, "one run at a time has all"
