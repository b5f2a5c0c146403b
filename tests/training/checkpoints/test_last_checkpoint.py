"""What a checkpoint holds so that training goes on with the same bits."""

import random
from collections.abc import Sequence
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from torch import nn

from prunelit import Mag, Pruning
from prunelit.training.checkpoints.contents import WholeFiles
from prunelit.training.checkpoints.last_checkpoint import (
    LastCheckpoint,
    checkpoint_to_resume,
    random_states,
    set_random_states,
)
from prunelit.training.lightning_overhead import Checkpoint
from stock import Stranger, loader


def draws() -> list[float]:
    return [float(torch.rand(())), float(np.random.rand()), random.random(), random.gauss(0, 1)]


def test_random_numbers_go_on_after_a_checkpoint(tmp_path: Path) -> None:
    """Of torch, NumPy and Python, through a file that runs no code when it is read."""
    random.gauss(0, 1)  # of each pair the second is kept
    torch.save(random_states(), tmp_path / "states")
    wanted = draws()
    draws()
    set_random_states(torch.load(tmp_path / "states", weights_only=True))
    assert draws() == wanted


class Noisy(Stranger):
    """Draws random numbers in each step, and may break off after some."""

    def __init__(self, steps: int = 1000) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Dropout(0.3), self.backbone)
        self.steps = steps

    def training_step(self, batch, batch_idx):
        self.steps -= 1
        if self.steps < 0:
            raise KeyError("broken off")
        return super().training_step(batch, batch_idx)


def fit(
    folder: Path, module: pl.LightningModule, resume: Path | None = None, more: Sequence[pl.Callback] = ()
) -> None:
    pl.seed_everything(3, verbose=False)
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    callbacks = [Pruning(Mag(), compression=0.5), *more, LastCheckpoint(folder, minutes=0)]
    trainer = pl.Trainer(max_epochs=3, accelerator="cpu", callbacks=callbacks, **quiet)  # type: ignore[arg-type]
    trainer.strategy.checkpoint_io = WholeFiles()
    batches = loader(shuffle=False)
    batches.generator = torch.Generator()  # without one of its own it draws from torch's each epoch
    trainer.fit(module, batches, ckpt_path=resume, weights_only=True)


def test_any_module_goes_on_after_an_epoch_with_the_same_bits(tmp_path: Path) -> None:
    whole, resumed = Noisy(), Noisy()
    fit(tmp_path / "whole", whole)
    with pytest.raises(KeyError):
        fit(tmp_path / "broken", Noisy(steps=8))
    fit(tmp_path / "broken", resumed, checkpoint_to_resume(tmp_path / "broken"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_training_goes_on_from_a_copy_of_the_best_checkpoint(tmp_path: Path) -> None:
    whole, resumed, folder = Noisy(), Noisy(), tmp_path / "broken"
    fit(tmp_path / "whole", whole)
    with pytest.raises(KeyError):
        fit(folder, Noisy(steps=4), more=[Checkpoint(folder, "best")])  # at the end of the first epoch
    assert (folder / "last.ckpt").read_bytes() == (folder / "best.ckpt").read_bytes()
    fit(folder, resumed, folder / "last.ckpt", more=[Checkpoint(folder, "best")])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_the_last_whole_checkpoint_is_chosen(tmp_path: Path, capsys) -> None:
    assert checkpoint_to_resume(tmp_path) is None
    for name in ("best", "last"):
        torch.save({"a": torch.zeros(9)}, tmp_path / f"{name}.ckpt")
    assert checkpoint_to_resume(tmp_path) == tmp_path / "last.ckpt"
    assert capsys.readouterr().err == ""
    (tmp_path / "last.ckpt").write_bytes(b"PK")
    assert checkpoint_to_resume(tmp_path) == tmp_path / "best.ckpt"
    assert capsys.readouterr().err == f"warning: {tmp_path / 'last.ckpt'} is damaged and is not used\n"
