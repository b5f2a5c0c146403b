"""What of sweeps on a cluster can be seen without one."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("sweep.wait=false", "sweep.wait=False: allowed is true, but for hydra/launcher=submitit_slurm"),
        ("sweep.runs_per_job=0", "sweep.runs_per_job=0: allowed is an integer of 1 or more"),
        (
            "hydra.launcher.timeout_min=soon",
            "hydra.launcher.timeout_min=soon: allowed is a value of the kind Integer",
        ),
        (
            "hydra.launcher.tasks_per_node=2 sweep.runs_per_job=2",
            "sweep.runs_per_job=2: a job has 2 tasks; allowed is 1",
        ),
        (
            "hydra.launcher.nodes=2 sweep.on_failure=retry",
            "sweep.on_failure=retry: a job has 2 tasks; allowed is continue",
        ),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_launched(cli, wrong: str, line: str) -> None:
    launcher = ["hydra/launcher=submitit_slurm"] if "launcher" in wrong else []
    assert cli("-m", *launcher, "seed=1,2", *wrong.split()) == (2, "", [line])


def test_a_complete_run_may_do_without_its_checkpoints(cli) -> None:
    assert cli("sweep.keep_checkpoints=false")[0] == 0
    (folder,) = Path("outputs/default").glob("digits*")
    assert not (folder / "checkpoints").exists()
    assert (folder / "weights.safetensors").exists()
    assert "complete already" in cli("sweep.keep_checkpoints=true")[1]
