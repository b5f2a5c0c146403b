"""Batches that prunelit's loop trains on itself give what Lightning's loop gives, bit for bit."""

from __future__ import annotations

import csv
import os
import signal
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from safetensors.torch import load_file

from prunelit.interruption import Interrupted
from prunelit.study import identity
from prunelit.study.configs import CONFIGS
from prunelit.train import train
from prunelit.training.epoch_loop import why_step_by_step
from prunelit.training.module import Classifier
from prunelit.training.run import parts

QUICK = ("epochs=2", "logger=none", "trainer=cpu", "batch_size=16", "model.width=20")
RESNET = ("model=resnet20", "model.depth=8", "~model.width", "batch_size=256")
RUNS = {
    "masks": (),
    "dense": ("pruner=none",),
    "momentum": ("optimizer=momentum", "scheduler=cosine", "optimizer.lr=0.01", "label_smoothing=0.1"),
    "bf16": ("trainer.precision=bf16-mixed",),
    "epochs": ("pruner=iterative", "epochs=3"),
    "slimming": (*RESNET, "pruner=bn_scale", "pruner.slimming=0.001", "pruner.when=end"),
}


class EveryBatch(Callback):
    """Counts the batches that it sees."""

    def __init__(self) -> None:
        self.seen = 0

    def on_train_batch_end(self, *_: Any) -> None:
        self.seen += 1


class Reason(Callback):
    """Stores why Lightning trains on each batch, and their number; has no hook of batches itself."""

    def __init__(self) -> None:
        self.why: set[str] = set()
        self.batches = 0

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.why.add(why_step_by_step(trainer))
        self.batches += int(trainer.num_training_batches)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trained(folder: str, overrides: tuple[str, ...], *callbacks: Callback) -> tuple[Any, Any, Any]:
    """Do a run with more callbacks; return its weights, its rows of epochs and its result."""
    build = parts.build_trainer

    def with_callbacks(*args: Any, **kwargs: Any) -> pl.Trainer:
        trainer = build(*args, **kwargs)
        trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
        return trainer

    with initialize_config_dir(str(CONFIGS), version_base="1.3"), pytest.MonkeyPatch.context() as patch:
        cfg = compose("config", [*QUICK, f"output_dir={folder}", *overrides])
        patch.setattr(parts, "build_trainer", with_callbacks)
        result = train(cfg)
    run = identity.folder(cfg)
    with (run / "metrics.csv").open() as file:
        rows = [
            {key: value for key, value in row.items() if "seconds" not in key} for row in csv.DictReader(file)
        ]
    return load_file(run / "weights.safetensors"), rows, result


def assert_equal(first: tuple[Any, Any, Any], second: tuple[Any, Any, Any]) -> None:
    for name, weight in first[0].items():
        assert torch.equal(weight, second[0][name]), name
    assert first[1] == second[1]
    for key in ("top1", "kept", "density"):
        assert first[2][key] == second[2][key]


@pytest.mark.parametrize("name", RUNS)
def test_all_ways_to_train_give_the_same_bits(name: str) -> None:
    reason, every = Reason(), EveryBatch()
    alone = trained("alone", RUNS[name], reason)
    assert reason.why == {""}
    reason = Reason()
    assert_equal(alone, trained("each", RUNS[name], reason, every))
    assert reason.why == {"there is a callback of the class EveryBatch"}
    assert every.seen == reason.batches > 0


def test_a_signal_within_an_epoch_saves_and_the_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = trained("whole", ())
    step, calls = Classifier.training_step, 0

    def interrupted(self: Classifier, batch: Any, batch_idx: int) -> Any:
        nonlocal calls
        calls += 1
        if calls == 30:
            os.kill(os.getpid(), signal.SIGTERM)
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Classifier, "training_step", interrupted)
    with pytest.raises(Interrupted):
        trained("interrupted", ())
    assert 30 <= calls <= 32
    calls = 31
    assert_equal(whole, trained("interrupted", ()))


def test_what_measures_or_changes_steps_sees_all_of_them() -> None:
    monitor, reason = LearningRateMonitor("step"), Reason()
    trained("monitor", ("logger=csv", "epochs=1"), reason, monitor)
    assert reason.why == {"there is a callback of the class LearningRateMonitor"}
    for override, why in (
        ("+trainer.gradient_clip_val=1", "gradients are clipped"),
        ("trainer.accumulate_grad_batches=2", "gradients are accumulated over several batches"),
        ("+trainer.profiler=simple", "a profiler measures each step"),
        ("trainer.precision=64-true", "trainer.precision is 64-true"),
        (
            "optimizer._target_=torch.optim.LBFGS ~optimizer.betas ~optimizer.fused ~optimizer.weight_decay "
            "optimizer.lr=1e-6",
            "the optimizer is a LBFGS",
        ),
    ):
        reason = Reason()
        trained("others", (*override.split(), "epochs=1"), reason)
        assert reason.why == {why}
