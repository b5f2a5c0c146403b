"""Sweeps on a real SLURM cluster: whatever happens to a job, its run ends with the bits of a local one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_cluster import Cluster, until

pytestmark = pytest.mark.slurm

SLURM = ("hydra/launcher=submitit_slurm", "hydra.launcher.cpus_per_task=1", "hydra.launcher.timeout_min=10")
TRAINING = ("model.width=20", "model.depth=2", "logger=none")


def command(*overrides: str) -> list[str]:
    return [sys.executable, "-m", "prunelit.train", "-m", *TRAINING, *overrides]


def sweep(cluster: Cluster, folder: Path, *overrides: str, status: int = 0) -> str:
    """Do a sweep to its end and return what it printed."""
    done = subprocess.run(
        command(*overrides), cwd=folder, env=cluster.environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def findings(study: Path) -> dict[str, tuple[object, ...]]:
    """Return what each run of a study found: numbers, and the bytes of weights and masks."""
    found = {}
    for file in study.glob("*/result.json"):
        result, run = json.loads(file.read_text()), file.parent
        numbers = [result[key] for key in ("top1", "top5", "test_loss", "best_top1", "density", "epochs")]
        tensors = [(run / f"{name}.safetensors").read_bytes() for name in ("weights", "masks")]
        found[run.name] = (*numbers, *tensors)
    return found


def jobs_of(study: Path) -> dict[str, str]:
    """Return the job of each run that is in the queue, by the pruner's name."""
    jobs = {}
    for file in study.glob(".sweep/*/slurm-*.json"):
        for job, folders in json.loads(file.read_text()).items():
            jobs.update({Path(folder).name.split("-")[2]: job for folder in folders})
    return jobs


@pytest.mark.slow
def test_a_sweep_that_nobody_waits_for_is_collected_by_the_same_command(
    cluster: Cluster, tmp_path: Path
) -> None:
    asked = ("pruner=mag,snip", "epochs=1")
    told = sweep(cluster, tmp_path, *SLURM, *asked, "sweep.wait=false", "sweep.runs_per_job=2")
    assert "submitted: 2 runs" in told
    assert "scancel" in told
    before = cluster.states()
    assert sweep(cluster, tmp_path, *SLURM, *asked).count("already in the queue: 2 runs") == 1
    assert cluster.states().keys() == before.keys(), "submitted twice"
    assert "complete already" in sweep(cluster, tmp_path, *SLURM, *asked)
    assert list(tmp_path.glob("outputs/default/.submitit/*/*_log.out")), "no log"
    sweep(cluster, tmp_path, *asked, "name=local")
    local = findings(tmp_path / "outputs" / "local")
    assert findings(tmp_path / "outputs" / "default") == local
    assert len(local) == 2


@pytest.mark.slow
def test_requeued_out_of_time_and_cancelled_jobs_end_with_the_results_of_local_ones(
    cluster: Cluster, tmp_path: Path
) -> None:
    asked = ("pruner=mag,snip,rand", "epochs=15", "batch_size=4")
    study = tmp_path / "outputs" / "default"
    with subprocess.Popen(
        command(*SLURM, *asked),
        cwd=tmp_path,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as leader:
        try:
            until(
                lambda: len(list(study.glob("*/checkpoints/last.ckpt"))) == 3,
                "all runs have trained a little",
            )
            jobs = jobs_of(study)
            cluster.scontrol("requeue", jobs["mag"])
            cluster.scancel("--signal=USR2", jobs["snip"])  # what SLURM sends before the time limit
            cluster.scancel(jobs["rand"])
            cluster.hurry(jobs["mag"], jobs["snip"])
            told, _ = leader.communicate(timeout=400)
        finally:
            leader.kill()
    assert leader.returncode == 1, told
    assert "sweep: 2 done, 1 failed" in told
    (line,) = [line for line in told.splitlines() if line.startswith("failed: ")]
    assert f"SLURM job {jobs['rand']} is CANCELLED" in line
    for name in ("mag", "snip"):
        assert "Restarts=1" in cluster.scontrol("show", "job", jobs[name])
    assert "1 done" in sweep(cluster, tmp_path, *SLURM, *asked)
    sweep(cluster, tmp_path, *asked, "name=local")
    local = findings(tmp_path / "outputs" / "local")
    assert findings(study) == local
    assert len(local) == 3


@pytest.mark.slow
def test_ranks_that_slurm_started_are_one_run(cluster: Cluster, tmp_path: Path) -> None:
    asked = ("pruner=snip", "epochs=1", "trainer=ddp", "trainer.accelerator=cpu")
    sweep(cluster, tmp_path, *SLURM, *asked, "hydra.launcher.tasks_per_node=2")
    sweep(cluster, tmp_path, *asked, "name=local")
    local = findings(tmp_path / "outputs" / "local")
    assert findings(tmp_path / "outputs" / "default") == local
    assert len(local) == 1


def test_what_the_cluster_does_not_offer_is_named_in_a_line(cluster: Cluster, tmp_path: Path) -> None:
    told = sweep(cluster, tmp_path, *SLURM, "pruner=mag,snip", "hydra.launcher.partition=gpu", status=2)
    assert told.count("\n") == 1
    assert told.startswith("hydra.launcher.partition=gpu: ")


def test_a_machine_without_slurm_says_so(tmp_path: Path) -> None:
    elsewhere = {**os.environ, "PATH": str(Path(sys.executable).parent)}
    done = subprocess.run(
        command(*SLURM, "pruner=mag,snip"), cwd=tmp_path, env=elsewhere, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "SLURM is not installed on this machine" in done.stderr
