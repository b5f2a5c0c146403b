"""A run that a signal ends has saved at the batch it was at, and goes on from there with the same bits."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest
import torch

from forked_runs import KINDS, SMALL, diary, findings, finish, kill_at, run_folder, with_handler

STEP = "prunelit.training.module.Classifier.training_step"
BATCHES = 23
"""A run's batches in an epoch: 1,437 images by 64."""


def at_step(number: int, by: int = signal.SIGTERM):
    return partial(kill_at, STEP, number, by)


def saved_batches(folder: Path) -> int:
    """How many batches of its epoch the last checkpoint has behind it."""
    content = torch.load(run_folder(folder) / "checkpoints" / "last.ckpt", weights_only=True)
    return content["loops"]["fit_loop"]["epoch_loop.batch_progress"]["current"]["processed"]


def status(folder: Path) -> str:
    return json.loads((run_folder(folder) / "status.json").read_text())["status"]


@pytest.mark.parametrize(
    "by",
    [
        *(signal.SIGTERM, signal.SIGINT),
        *(pytest.param(by, marks=pytest.mark.slow) for by in (signal.SIGUSR1, signal.SIGUSR2)),
    ],
)
def test_every_signal_saves_and_ends_with_its_status(by: signal.Signals, tmp_path: Path, undisturbed) -> None:
    run = (*SMALL, *KINDS["start"])
    assert finish(tmp_path, *run, patch=at_step(BATCHES + 7, by)) == 128 + by
    assert status(tmp_path) == "interrupted"
    assert saved_batches(tmp_path) == 7
    said = (tmp_path / "said.txt").read_text().splitlines()
    assert said[-1].startswith(f"interrupted by {by.name}")
    assert "Traceback" not in "".join(said)
    assert finish(tmp_path, *run) == 0
    assert status(tmp_path) == "complete"
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


METHODS = {
    **KINDS,
    "dense": ("pruner=none",),
    "gmp": ("pruner=gmp",),
    "std": ("pruner=std", "pruner.masked_gradient=false", "pruner.rounds=2"),
    "rigl": ("pruner=rigl", "compression=0.5"),
    "set": ("pruner=set", "compression=0.5"),
    "rewound": ("pruner=iterative", "sparsity=0.2", "pruner.rewind=1", "pruner.restart_schedule=true"),
    "each step": ("pruner=karnin", "pruner.criterion.per=step", "compression=0.5"),
    "two by two": ("pruner=mag", "trainer.accumulate_grad_batches=2", "trainer.gradient_clip_val=0.5"),
    "validated": ("pruner=synflow", "data.validation=0.1", "data.in_memory=false", "data.workers=0"),
}


QUICK = ("rounds", "end", "rigl", "two by two")


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in METHODS]
)
def test_a_run_broken_off_often(method: str, tmp_path: Path, undisturbed) -> None:
    """After 1, 9, 17, ... batches more: early and late in epochs."""
    run, count = (*SMALL, *METHODS[method]), 1
    while (ended := finish(tmp_path, *run, patch=at_step(count))) == 128 + signal.SIGTERM:
        count += 8
    assert (ended, count >= 17) == (0, True)
    assert findings(tmp_path) == undisturbed(*METHODS[method])


@pytest.mark.parametrize(
    "place", [1, pytest.param(BATCHES - 1, marks=pytest.mark.slow), BATCHES, BATCHES + 1]
)
def test_each_batch_is_trained_on_once(place: int, tmp_path: Path) -> None:
    """And each epoch is tested once, though the run was broken off at a batch, the last one too."""
    run = (*SMALL, *KINDS["start"])
    patch = partial(diary, tmp_path / "diary.txt", at_step(place))
    assert finish(tmp_path, *run, patch=patch) == 128 + signal.SIGTERM
    assert finish(tmp_path, *run, patch=partial(diary, tmp_path / "diary.txt")) == 0
    batches = [*range(BATCHES), "tested"]
    wanted = [f"{epoch} {batch}" for epoch in range(3) for batch in batches]
    assert (tmp_path / "diary.txt").read_text().splitlines() == wanted


@pytest.mark.parametrize(
    ("place", "again"),
    {
        "scoring": ("prunelit.training.network_pruner.prune", 0),
        "evaluation": ("prunelit.training.module.Classifier.validation_step", BATCHES),
        "the last test": ("prunelit.training.module.Classifier.test_step", 0),
    }.values(),
    ids=["scoring", "evaluation", "the last test"],
)
def test_a_signal_outside_the_batches(place: str, again: int, tmp_path: Path, undisturbed) -> None:
    run = (*SMALL, *KINDS["start"])
    assert finish(tmp_path, *run, patch=partial(kill_at, place, 1, signal.SIGUSR2)) == 128 + signal.SIGUSR2
    assert status(tmp_path) == "interrupted"
    if again:
        assert saved_batches(tmp_path) == again, "the epoch's test is waited for"
    assert finish(tmp_path, *run) == 0
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


@pytest.mark.parametrize(("trainer", "by"), [("ddp", signal.SIGUSR1), ("fsdp", signal.SIGTERM)])
def test_the_ranks_of_a_run_save_together(trainer: str, by: int, tmp_path: Path, undisturbed) -> None:
    """The signal comes to the process that started them, or to them."""
    ranks = (
        f"trainer={trainer}",
        "trainer.accelerator=cpu",
        "trainer.devices=2",
        "epochs=2",
        *KINDS["start"],
    )
    run = (*SMALL, *ranks)
    assert finish(tmp_path, *run, patch=partial(kill_at, STEP, 5, by, 1, os.getppid)) == 128 + by
    assert 5 <= saved_batches(tmp_path) < 12
    assert finish(tmp_path, *run, patch=partial(kill_at, STEP, 3, signal.SIGTERM)) == 128 + signal.SIGTERM
    assert finish(tmp_path, *run) == 0
    assert findings(tmp_path) == undisturbed(*ranks)


def test_a_second_ctrl_c_does_not_wait(tmp_path: Path) -> None:
    """Both come within a batch, so that its epoch is lost."""
    patch = partial(kill_at, STEP, BATCHES + 7, signal.SIGINT, 2)
    assert finish(tmp_path, *SMALL, "pruner=none", patch=patch) == 130
    assert saved_batches(tmp_path) == BATCHES


def test_the_handler_from_before_has_the_signal_when_all_is_saved(tmp_path: Path, undisturbed) -> None:
    """As submitit's, which puts the job into the queue again and exits."""
    run = (*SMALL, *KINDS["start"])
    patch = partial(with_handler, signal.SIGUSR2, 7, at_step(30, signal.SIGUSR2))
    assert finish(tmp_path, *run, patch=patch) == 7
    assert status(tmp_path) == "interrupted"
    assert saved_batches(tmp_path) == 7
    assert finish(tmp_path, *run) == 0
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


def test_a_handler_that_returns_lets_the_run_go_on(tmp_path: Path, undisturbed) -> None:
    """As submitit's for SIGTERM."""
    run = (*SMALL, *KINDS["start"])
    patch = partial(with_handler, signal.SIGTERM, None, at_step(30, signal.SIGTERM))
    assert finish(tmp_path, *run, patch=patch) == 0
    assert (tmp_path / "said.txt").read_text().count("the handler from before") == 1
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


def test_a_signal_that_was_ignored_stays_so(tmp_path: Path, undisturbed) -> None:
    run = (*SMALL, *KINDS["start"])
    patch = partial(with_handler, signal.SIGUSR1, signal.SIG_IGN, at_step(30, signal.SIGUSR1))
    assert finish(tmp_path, *run, patch=patch) == 0
    assert findings(tmp_path) == undisturbed(*KINDS["start"])


def test_long_epochs_are_saved_within(tmp_path: Path, undisturbed) -> None:
    """Here after every batch; a killed run goes on from the last of them, and the folder is the same."""
    run = (*SMALL, *KINDS["start"])
    assert finish(tmp_path, *run, "sweep.checkpoint_minutes=0", patch=at_step(30, signal.SIGKILL)) == -9
    assert saved_batches(tmp_path) == 6
    assert finish(tmp_path, *run) == 0
    assert findings(tmp_path) == undisturbed(*KINDS["start"])
