"""Build the objective that scores are taken on, of any LightningModule in any Trainer."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import lightning.pytorch as pl
from torch import nn

from prunelit.pruning.objective import Objective
from prunelit.pruning.preserve import random_state
from prunelit.request import BadRequest
from prunelit.training.scoring.batch_transfer import transferred
from prunelit.training.scoring.network_call import network_call
from prunelit.training.scoring.training_batches import Sample, training_batches
from prunelit.training.scoring.training_loss import reads_iterator, training_loss, training_step


def build_objective(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    root: nn.Module,
    needs: str,
    sample: Sample,
    seed: int,
    with_inputs: bool = False,
) -> Objective:
    """Return the objective of a module in a running ``fit``: its own batches, loss and input.

    ``root`` is the part to prune. Call inside :func:`undisturbed`. For a criterion that needs only
    an example input one batch is drawn. ``with_inputs`` adds the network's inputs to batches too.
    """
    with random_state(seed):
        sample = sample if needs == "batches" else Sample(samples_per_class=1, batches=None)
        batches = training_batches(trainer, sample, seed)
        if not reads_iterator(pl_module):
            batches = [transferred(trainer, pl_module, batch) for batch in batches]
    if not batches:
        raise BadRequest("batches", sample.batches, "a training set with at least one batch")
    if needs == "example":
        # A module that optimises by hand gives no loss, and none is needed to see its network called.
        gives_loss = hasattr(pl_module, "pruning_loss")
        step = training_loss(trainer, pl_module) if gives_loss else training_step(trainer, pl_module)
        call = network_call(pl_module, root, step, batches[0])
        return Objective(batches=batches, inputs=call.inputs, keywords=call.keywords)
    loss = training_loss(trainer, pl_module)
    if needs == "batches":
        # Ranks share the batches; gradients are summed over ranks before anything is made of them.
        places = range(trainer.global_rank, len(batches), trainer.world_size)
        own = [batches[place] for place in places]
        head = getattr(pl_module, "pruning_head", None)
        add_up = partial(trainer.strategy.reduce, reduce_op="sum")
        objective = Objective(loss, own, (), add_up, head, batches[0], places)
        if not with_inputs:
            return objective
        call = network_call(pl_module, root, loss, batches[0])
        return replace(objective, inputs=call.inputs, keywords=call.keywords)
    call = network_call(pl_module, root, loss, batches[0])
    return Objective(loss, batches, call.inputs, keywords=call.keywords)
