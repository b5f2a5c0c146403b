"""Going on where a run ended: ``checkpoints/last.ckpt``, from which training has the very same bits."""

from __future__ import annotations

import random
import time
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Checkpoint

from prunelit.interruption import BATCHES, ELSEWHERE, EVALUATION, Interrupted, Interruption
from prunelit.notice import warn
from prunelit.training.checkpoints.weight_files import is_whole
from prunelit.training.parallel import threads

STEPS_OF_GPUS = 10
"""How often ranks on GPUs ask each other whether to save: the host waits for the GPU to hear the answer."""


class LastCheckpoint(Checkpoint):
    """Saves ``last.ckpt`` after every epoch, every few minutes within one, and before a signal ends the run.

    Within an epoch it saves just after an optimizer step, so that no gathered gradient is lost, and never
    after the last one: the evaluation and the checkpoint at the end of the epoch are near. The states of the
    random number generators ride along; batches must depend on the epoch alone, as those of prunelit's
    loaders do.

    Args:
        folder: of ``last.ckpt``.
        interruption: tells of signals; None: they end the run without a checkpoint.
        minutes: saves within an epoch when the last checkpoint, or the start, is so long ago; None: never.
    """

    state_key = "prunelit.LastCheckpoint"
    # Lightning calls these in each step; what is not callable is passed over.
    on_before_zero_grad = on_before_backward = None  # type: ignore[assignment]
    on_after_backward = on_before_optimizer_step = None  # type: ignore[assignment]

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
        """Use as many threads as before, and keep the random states until training goes on."""
        if "threads" in state_dict and not threads.set_by_user():
            torch.set_num_threads(state_dict["threads"])
        self._random = dict(state_dict["random"])

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take back the signals that Lightning has taken, and go on with the same random numbers."""
        self.interruption.take()
        if self._random:
            set_random_states(self._random)
            self._random = {}
            if trainer.is_global_zero:
                folder = self.path.parent.parent
                print(f"resumed: {folder} in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}")

    def on_test_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Take back the signals that Lightning has taken."""
        self.interruption.take()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """From here on signals wait for the batch to end."""
        self.interruption.waiting = BATCHES
        self.interruption.progressed(counts=batch_idx > 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save, if it is time to."""
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
        """From here on only schedulers wait, not persons."""
        self.interruption.waiting = EVALUATION
        asked = self.interruption.asked
        if asked is not None and asked not in EVALUATION:
            raise Interrupted(asked)

    def on_validation_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        """A scheduler's signal may wait while the evaluation goes on."""
        self.interruption.progressed()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save; no signal needs to wait any longer."""
        self._save(trainer)
        self.interruption.waiting = ELSEWHERE
        asked, _ = self._agreed(trainer, at_end=True)
        if asked:
            raise Interrupted(asked)

    def _save(self, trainer: pl.Trainer) -> None:
        with self.interruption.saving():
            trainer.save_checkpoint(self.path)
        self._saved = time.monotonic()

    def _agreed(self, trainer: pl.Trainer, at_end: bool = False) -> tuple[int, bool]:
        """Return the signal that any rank was sent, or 0, and whether the last checkpoint is old for any.

        All ranks save together, and end together. On GPUs they ask each other in some steps only.
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
        "python": [version, list(numbers), gauss],
    }
    # Only where CUDA is in use: asking would make a context on a GPU that the run does not need.
    if torch.cuda.is_initialized():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Put the generators back into ``states``."""
    torch.set_rng_state(states["torch"])
    name, keys, *rest = states["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def checkpoint_to_resume(folder: Path) -> Path | None:
    """Return the checkpoint in ``folder`` to go on from: the last, or the best if that is damaged.

    None if neither is there and whole. Says in a line which ones are damaged.
    """
    for name in ("last", "best"):
        path = folder / f"{name}.ckpt"
        if path.is_dir() or is_whole(path):  # a folder: the sharded checkpoint of a data-parallel run
            return path
        if path.exists():
            warn(f"{path} is damaged and is not used")
    return None
