"""What of sweeps on a cluster can be seen without one."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit.study.sweep.composer import Run
from prunelit.study.sweep.state import Sweep
from prunelit.study.sweep.summary import row_of

SBATCH = """
import pickle, sys
from pathlib import Path

taken = Path("taken")
if taken.exists():
    sys.exit("sbatch: error: Batch job submission failed: Invalid qos specification")
taken.touch()
for job, told in {"7_0": ("success", [99.0]), "7_1": ("error", "no luck")}.items():
    folder = Path("outputs/default/.submitit", job)
    folder.mkdir(parents=True)
    (folder / f"{job}_0_result.pkl").write_bytes(pickle.dumps(told))
print("Submitted batch job 7")
"""
"""Takes one array of jobs, which end at once: the first well, the second not. Refuses the next."""


@pytest.fixture
def slurm(study: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Put programs on the path that answer as SLURM's; an array has as many jobs as is asked for."""

    def programs(array_size: int) -> None:
        (study / "sbatch.py").write_text(SBATCH)
        answers = {
            "sbatch": f"exec {shlex.quote(sys.executable)} {shlex.quote(str(study / 'sbatch.py'))}",
            "squeue": "test ! -e taken || printf '7_0|COMPLETED|None\\n7_1|FAILED|None\\n'",
            "scontrol": f"echo MaxArraySize = {array_size}",
            "srun": "exit 1",
        }
        (study / "bin").mkdir()
        for name, line in answers.items():
            (study / "bin" / name).write_text(f"#!/bin/sh\n{line}\n")
            (study / "bin" / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{study / 'bin'}{os.pathsep}{os.environ['PATH']}")

    return programs


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        ("sweep.wait=false", "sweep.wait=false: "),
        ("sweep.runs_per_job=0", "sweep.runs_per_job=0: "),
        ("hydra.launcher.timeout_min=soon", "hydra.launcher.timeout_min=soon: "),
        ("hydra.launcher.tasks_per_node=2 sweep.runs_per_job=2", "sweep.runs_per_job=2: "),
        ("hydra.launcher.nodes=2 sweep.on_failure=retry", "sweep.on_failure=retry: "),
    ],
)
def test_a_wrong_value_is_named_before_anything_is_launched(cli, wrong: str, line: str) -> None:
    launcher = ["hydra/launcher=submitit_slurm"] if "launcher" in wrong else []
    status, out, (said,) = cli("-m", *launcher, "seed=1,2", *wrong.split())
    assert (status, out) == (2, "")
    assert said.startswith(line)


def test_a_complete_run_may_do_without_its_checkpoints(cli) -> None:
    assert cli("sweep.keep_checkpoints=false")[0] == 0
    (folder,) = Path("outputs/default").glob("digits*")
    assert not (folder / "checkpoints").exists()
    assert (folder / "weights.safetensors").exists()
    assert "complete already" in cli("sweep.keep_checkpoints=true")[1]


def test_runs_of_one_name_in_two_studies_are_two(cli, slurm: Callable[[int], None]) -> None:
    slurm(1000)
    status, out, _ = cli("-m", "hydra/launcher=submitit_slurm", "name=a,b")
    assert status == 1
    assert "sweep: 1 done, 1 failed" in out
    assert [path.parts[1] for path in Path("outputs").glob("*/digits*/status.json")] == ["b"]


def test_what_was_taken_is_told_when_the_rest_is_refused(cli, slurm: Callable[[int], None]) -> None:
    slurm(2)
    status, out, err = cli("-m", "hydra/launcher=submitit_slurm", "seed=1,2,3", "sweep.runs_per_job=1")
    assert status == 2
    assert len(err) == 1
    assert err[0].startswith("hydra.launcher.qos=")
    assert "submitted: 2 runs in SLURM jobs 7 (2)" in out
    assert "scancel 7" in out


def test_a_repeated_run_is_accounted_for_when_the_folder_of_its_sweep_is_gone(tmp_path: Path) -> None:
    run, sweep = Run((), tmp_path / "run", rerun=True), Sweep(tmp_path / ".sweep" / "1")
    run.folder.mkdir()
    result = run.folder / "result.json"
    result.touch()
    os.utime(result, (0, 0))
    began = sweep.begin([run])
    sweep.end()
    assert row_of(run, began).state != "done", "the result is an older one"
    result.write_text("{}")
    assert row_of(run, began).state == "done"
