"""Several processes for one run: real ones, over gloo on the CPU."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from lightning.pytorch.strategies import FSDPStrategy
from omegaconf import OmegaConf

from faulty_network import start_program, write_faulty_network
from forked_runs import KINDS, SMALL, findings, finish, kill_at, run_folder
from prunelit import BadRequest, Mag, train
from prunelit.training.parallel import rank_processes, threads
from prunelit.training.parallel.sharding import check_strategy

PATIENCE = 600
"""Seconds to wait for what must come: only a machine that stands still makes it fail."""


@pytest.fixture
def start(tmp_path: Path):
    """Start the program on two ranks in a session of its own, with the network above as ``model=faulty``."""
    write_faulty_network(tmp_path, rank="1")
    quiet = ("trainer=ddp", "trainer.accelerator=cpu", "epochs=1", "logger=none")

    def start(*arguments: str) -> subprocess.Popen[str]:
        return start_program(tmp_path, *quiet, *arguments)

    return start


def group(leader: int) -> list[str]:
    """The living processes of a session, by number and name."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            head, _, tail = stat.read_text().rpartition(")")
        except OSError:
            continue
        state, _, _, session = tail.split()[:4]
        if int(session) == leader and state != "Z":
            found.append(head)
    return found


def ends(leader: int) -> bool:
    deadline = time.monotonic() + PATIENCE
    while group(leader) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not group(leader)


def test_a_rank_that_dies_fails_its_run_alone(start, tmp_path: Path) -> None:
    sweep = start("-m", "model=faulty", "model.fault=raise,kill,none", "pruner=mag")
    _, errors = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 1
    assert group(sweep.pid) == []
    found = {}
    for status in tmp_path.glob("outputs/default/*/status.json"):
        overrides = (status.parent / ".hydra" / "overrides.yaml").read_text()
        fault = overrides.partition("model.fault=")[2].split()[0]
        found[fault] = json.loads(status.read_text())
        if fault == "raise":
            assert "in rank 1:" in (status.parent / "traceback.txt").read_text()
    assert {fault: status["status"] for fault, status in found.items()} == {
        "raise": "failed",
        "kill": "failed",
        "none": "complete",
    }
    assert "no luck" in found["raise"]["error"]
    assert "rank 1 was killed by SIGKILL" in found["kill"]["error"]
    assert "RankDied: rank 1 was killed by SIGKILL" in errors


def press_ctrl_c(leader: int) -> None:
    os.killpg(leader, signal.SIGINT)
    time.sleep(0.5)  # The first waits for a batch to end, and this one never does.
    os.killpg(leader, signal.SIGINT)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
@pytest.mark.parametrize(
    ("send", "status"),
    [pytest.param(press_ctrl_c, 130, marks=pytest.mark.slow), (lambda pid: os.kill(pid, signal.SIGKILL), -9)],
    ids=["ctrl-c", "killed"],
)
def test_no_rank_outlives_the_program(start, tmp_path: Path, send, status: int) -> None:
    program = start("model=faulty", "model.fault=hang", "pruner=mag")
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "hanging").exists():
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert len(group(program.pid)) == 3
    send(program.pid)
    program.wait(PATIENCE)
    assert program.returncode == status
    assert ends(program.pid)


def address_in_use() -> bool:
    """Return whether this rank finds that something listens at the address where the ranks meet."""
    with socket.socket() as other:
        try:
            other.bind((os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])))
        except OSError:
            return True
    return False


def test_no_other_program_can_take_the_port_before_the_ranks_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    trainer = OmegaConf.create({"accelerator": "cpu", "devices": 2, "strategy": "ddp"})
    assert rank_processes.run(address_in_use, trainer, may_fork=True)


def test_a_wrong_request_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the ranks' processes together: each of them could say it."""
    monkeypatch.chdir(tmp_path)
    ranks = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2")
    monkeypatch.setattr(sys, "argv", ["train.py", *ranks, "epochs=1", "pruner=mag", "compression=9"])
    with pytest.raises(SystemExit) as end:
        train.main()
    assert end.value.code == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "Warning" not in line]
    assert line.startswith("compression=9: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["trainer.strategy=fsdp"], "trainer.strategy=fsdp: "),
        (["trainer=ddp", "trainer.strategy=ddp_spawn"], "trainer.strategy=ddp_spawn: "),
        (
            ["trainer=fsdp", "trainer.precision=64-true"],
            "trainer.precision=64-true: trainer.strategy is fully",
        ),
        (["trainer=ddp", "data.eval_batch_size=1"], "data.eval_batch_size=1: there are several devices; "),
        (
            ["trainer=fsdp", "pruner=mag", "pruner.granularity=unit", "pruner.cut=true"],
            "pruner.cut=true: FullyShard keeps parts or copies of the whole network; ",
        ),
        (["trainer=fsdp", "pruner=karnin"], "trainer.strategy=fully_shard: Karnin observes whole weights"),
    ],
)
def test_what_ranks_cannot_do_is_refused(cli, arguments: list[str], line: str) -> None:
    status, _, errors = cli(*arguments, "trainer.accelerator=cpu")
    assert status == 2
    assert len(errors) == 1
    assert errors[0].startswith(line)


def test_ranks_share_the_threads_of_their_run(monkeypatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    threads.set_number(4)
    try:
        asked = OmegaConf.create({"accelerator": "cpu", "devices": 2, "strategy": "ddp"})
        assert rank_processes.run(torch.get_num_threads, asked, may_fork=True) == 2
    finally:
        torch.set_num_threads(1)


def test_flat_parameters_are_refused() -> None:
    """Those of Lightning's older strategy, which needs a GPU before it says anything itself."""
    with pytest.raises(BadRequest, match=r"^trainer\.strategy=fsdp: "):
        check_strategy(FSDPStrategy(), Mag())


@pytest.mark.parametrize("trainer", ["ddp", "fsdp"])
def test_a_run_of_ranks_goes_on_where_it_was_killed(trainer: str, tmp_path: Path) -> None:
    """Between two rounds of rewinding, with a momentum, a falling learning rate and random numbers."""
    run = (*SMALL, *KINDS["rounds"], f"trainer={trainer}", "trainer.accelerator=cpu", "epochs=4")
    kill = partial(kill_at, "prunelit.training.module.Classifier.training_step", 30, whom=os.getppid)
    assert finish(tmp_path / "killed", *run, patch=kill) == -signal.SIGKILL
    assert (run_folder(tmp_path / "killed") / "checkpoints" / "last.ckpt").is_file()
    assert finish(tmp_path / "killed", *run) == 0
    assert finish(tmp_path / "whole", *run) == 0
    assert findings(tmp_path / "killed") == findings(tmp_path / "whole")
