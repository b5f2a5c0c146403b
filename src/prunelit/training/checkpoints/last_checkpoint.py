"""The checkpoint ``last.ckpt``, from which a run resumes with the same result bit for bit."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

from prunelit.durable import is_whole, replacing
from prunelit.interruption import BATCHES, ELSEWHERE, EVALUATION, Interrupted, Interruption
from prunelit.notice import warn
from prunelit.training.lightning_overhead import Checkpoint as BestCheckpoint
from prunelit.training.lightning_overhead import NotCalledInSteps
from prunelit.training.parallel import threads

STEPS_OF_GPUS = 10
"""Steps between two queries of ranks on GPUs whether to save, as each query synchronizes with the GPU."""


class LastCheckpoint(NotCalledInSteps, Checkpoint):  # type: ignore[misc]
    """Saves ``last.ckpt`` after every epoch, every few minutes within one, and before a signal ends the run.

    Within an epoch it saves just after an optimizer step, so that no accumulated gradient is lost, but not
    after the last one, because the checkpoint at the end of the epoch follows. The states of the random
    number generators are saved too. Batches must only depend on the epoch, as with prunelit's loaders.

    Args:
        folder: the folder of ``last.ckpt``.
        interruption: handles signals; None if they end the run without a checkpoint.
        minutes: the age of the last checkpoint, or of the start, at which to save within an epoch; None:
            never.
    """

    state_key = "prunelit.LastCheckpoint"

    def __init__(
        self, folder: Path, interruption: Interruption | None = None, minutes: float | None = None
    ) -> None:
        self.path = folder / "last.ckpt"
        self.interruption = interruption or Interruption()
        self.minutes = minutes
        self._saved = time.monotonic()
        self._random: dict[str, Any] = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the random number generators, and the number of threads."""
        return {"random": random_states(), "threads": torch.get_num_threads()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Use as many threads as before, and keep the random states until training continues."""
        if "threads" in state_dict and not threads.set_by_user():
            torch.set_num_threads(state_dict["threads"])
        self._random = dict(state_dict["random"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reinstall the signal handlers that Lightning has replaced, and continue with the same random
        numbers."""
        self.interruption.install()
        if self._random:
            set_random_states(self._random)
            self._random = {}
            if trainer.is_global_zero:
                folder = self.path.parent.parent
                print(f"resumed: {folder} in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Reinstall the signal handlers that Lightning has replaced."""
        self.interruption.install()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on signals wait for the batch to end."""
        self.interruption.waiting = BATCHES
        self.interruption.progressed(counts=batch_idx > 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if due."""
        self.interruption.progressed()
        done = batch_idx + 1
        if done % trainer.accumulate_grad_batches or done == trainer.num_training_batches:
            return
        asked, late = self._agreed(trainer)
        if asked or late:
            self._save(trainer)
        if asked:
            raise Interrupted(asked)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """From here on, signals of schedulers wait, but Ctrl-C does not."""
        self.interruption.waiting = EVALUATION
        asked = self.interruption.asked
        if asked is not None and asked not in EVALUATION:
            raise Interrupted(asked)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """A scheduler's signal may wait while the evaluation goes on."""
        self.interruption.progressed()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; signals need not wait any longer."""
        same = [c.just_saved for c in trainer.checkpoint_callbacks if isinstance(c, BestCheckpoint)]
        if trainer.world_size == 1 and same and same[0]:
            self._copy(same[0])
        else:
            self._save(trainer)
        self.interruption.waiting = ELSEWHERE
        asked, _ = self._agreed(trainer, at_end=True)
        if asked:
            raise Interrupted(asked)

    def _save(self, trainer: pl.Trainer) -> None:
        with self.interruption.saving():
            trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def _copy(self, best: Path) -> None:
        """Copy the best checkpoint, which was saved in the same state; this is faster than saving again.

        The best one is on the disk, and is used if the machine stops before the copy is.
        """
        copied = replacing(self.path, flushed=False)
        with self.interruption.saving(), best.open("rb") as saved, copied as file:
            shutil.copyfileobj(saved, file)
        self._saved = time.monotonic()

    @property
    def is_due(self) -> bool:
        """Whether to save after this batch: the last checkpoint is too old, or a signal waits for one."""
        late = self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes
        return late or self.interruption.asked is not None

    def _agreed(self, trainer: pl.Trainer, at_end: bool = False) -> tuple[int, bool]:
        """Return the signal that any rank received, or 0, and whether the last checkpoint is too old on any
        rank.

        All ranks save and end together. On GPUs they synchronize only every few steps.
        """
        asked = int(self.interruption.asked or 0)
        late = self.minutes is not None and time.monotonic() - self._saved >= 60 * self.minutes
        if trainer.world_size == 1:
            return asked, late
        if not at_end and trainer.strategy.root_device.type == "cuda" and trainer.global_step % STEPS_OF_GPUS:
            return 0, False
        mine = torch.tensor([asked, int(late)], device=trainer.strategy.root_device)
        asked, old = trainer.strategy.reduce(mine, reduce_op="max").tolist()
        return asked, bool(old)


def random_states() -> dict[str, Any]:
    """Return the states of the generators of torch, CUDA, NumPy and Python, as plain values and tensors."""
    name, keys, *rest = np.random.get_state(legacy=True)
    version, numbers, gauss = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "python": [version, torch.tensor(numbers), gauss],
    }
    # Only if CUDA is in use, because otherwise the query would create a context on a GPU.
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Set the generators to ``states``."""
    torch.set_rng_state(states["torch"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(torch.as_tensor(numbers).tolist()), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Return the checkpoint in ``folder`` from which to resume: the last, or the best if that is damaged.

    None if neither is usable. One line names the damaged ones.
    """
    for name in ("last", "best"):
        path = folder / f"{name}.ckpt"
        if path.is_dir() or is_whole(path):  # a folder: the sharded checkpoint of a data-parallel run
            return path
        if path.exists():
            warn(f"{path} is damaged and is not used")
    return None
