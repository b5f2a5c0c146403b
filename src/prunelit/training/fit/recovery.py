"""Recover straight after a pruning, on batches of the training data: repair layers, recalibrate BatchNorm."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from prunelit.notice import warn
from prunelit.pruning.least_squares import MOST_INPUTS, Training, repair_layers
from prunelit.pruning.masks import Masks
from prunelit.pruning.parameters import abridged
from prunelit.pruning.preserve import random_state
from prunelit.pruning.recalibrate import norms_with_statistics, recalibrate
from prunelit.training.fit.retraining import Retraining
from prunelit.training.parallel.agreement import share_buffers
from prunelit.training.restoring.no_trace import undisturbed
from prunelit.training.scoring.batch_transfer import transferred
from prunelit.training.scoring.training_batches import Sample, training_batches
from prunelit.training.scoring.training_loss import reads_iterator, training_loss, training_step

Run = Callable[[Any], Any]


class Recovery:
    """The recovery after each pruning that the options ask for.

    Args:
        options: ``repair``, ``ridge`` and ``recalibrate`` are used.
        seed: the random seed of the batches.
    """

    def __init__(self, options: Retraining, seed: int) -> None:
        self._options, self._seed = options, seed
        self._before: dict[str, Tensor] = {}

    def note(self, network: nn.Module) -> None:
        """Copy the parameters of a network that is about to be pruned, if they are needed."""
        if self._options.repair:
            self._before = {name: p.detach().clone() for name, p in network.named_parameters()}

    def hooks(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module, masks: Masks
    ) -> Iterator[str]:
        """Do one step after the other; yield the hook by which callbacks are notified of each."""
        if self._options.repair:
            self._repair(trainer, pl_module, network, masks)
            yield "on_after_repair"
        if self._options.recalibrate:
            self._recalibrate(trainer, pl_module, network)
            yield "on_after_recalibration"

    def _repair(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module, masks: Masks
    ) -> None:
        """Fit the layers behind removed units to their former outputs."""
        before, self._before = self._before, {}
        assert self._options.repair is not None
        with batches_and_run(trainer, pl_module, network, self._options.repair, self._seed) as (batches, run):
            too_wide = repair_layers(network, before, masks, Training(run, batches, self._options.ridge))
        if too_wide and trainer.is_global_zero:
            warn(f"repair changes nothing in {abridged(too_wide)}, with more than {MOST_INPUTS} inputs")

    def _recalibrate(self, trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module) -> None:
        """Estimate the running statistics of BatchNorm again; a network without any stays, with a warning."""
        number = self._options.recalibrate
        assert number is not None
        if not norms_with_statistics(network):
            name = type(network).__name__
            warn(f"recalibrate={number} changes nothing: {name} has no BatchNorm with statistics")
            return
        with batches_and_run(trainer, pl_module, network, number, self._seed) as (batches, run):
            recalibrate(network, run, batches)


@contextmanager
def batches_and_run(
    trainer: pl.Trainer, pl_module: pl.LightningModule, network: nn.Module, number: int, seed: int
) -> Iterator[tuple[list[Any], Run]]:
    """Give training batches drawn by ``seed``, and the function that runs the network on one.

    Every rank reads the same batches. After the block, nothing of the training has changed but what the block
    changes in the network.
    """
    share_buffers(trainer, pl_module)
    with undisturbed(trainer, pl_module, network), random_state(seed):
        batches = training_batches(trainer, Sample(samples_per_class=None, batches=number), seed)
        if not reads_iterator(pl_module):
            batches = [transferred(trainer, pl_module, batch) for batch in batches]
        # A module that optimises by hand gives no loss, and none is needed to see its network called.
        gives_loss = hasattr(pl_module, "pruning_loss")
        step = training_loss(trainer, pl_module) if gives_loss else training_step(trainer, pl_module)

        def run(batch: object) -> None:
            with torch.enable_grad():
                step(batch)

        yield batches, run
