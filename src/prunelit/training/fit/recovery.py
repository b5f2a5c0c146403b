"""Recalibrate BatchNorm straight after a pruning, on batches of the training data."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from torch import nn

from prunelit.notice import warn
from prunelit.pruning.preserve import random_state
from prunelit.pruning.recalibrate import norms_with_statistics, recalibrate
from prunelit.training.parallel.agreement import share_buffers
from prunelit.training.restoring.no_trace import undisturbed
from prunelit.training.scoring.batch_transfer import transferred
from prunelit.training.scoring.training_batches import Sample, training_batches
from prunelit.training.scoring.training_loss import reads_iterator, training_loss, training_step


def recalibrate_on_training_data(
    trainer: pl.Trainer, pl_module: pl.LightningModule, root: nn.Module, num_batches: int, seed: int
) -> None:
    """Estimate the running statistics of BatchNorm in ``root`` on batches drawn by ``seed``.

    Every rank reads the same batches. Nothing else changes. A network without BatchNorm stays as it is, with
    a warning.
    """
    if not norms_with_statistics(root):
        name = type(root).__name__
        warn(f"recalibrate={num_batches} changes nothing: {name} has no BatchNorm with statistics")
        return
    share_buffers(trainer, pl_module)
    with undisturbed(trainer, pl_module, root), random_state(seed):
        batches = training_batches(trainer, Sample(samples_per_class=None, batches=num_batches), seed)
        if not reads_iterator(pl_module):
            batches = [transferred(trainer, pl_module, batch) for batch in batches]
        # A module that optimises by hand gives no loss, and none is needed to see its network called.
        gives_loss = hasattr(pl_module, "pruning_loss")
        step = training_loss(trainer, pl_module) if gives_loss else training_step(trainer, pl_module)

        def run(batch: object) -> None:
            with torch.enable_grad():
                step(batch)

        recalibrate(root, run, batches)
