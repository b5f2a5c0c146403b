"""What a group of runs in one process needs of training; the study names this module without importing it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop

from prunelit.interruption import Interruption
from prunelit.training.epoch_loop import EpochLoop
from prunelit.training.packed.epoch_loop import PackedEpochLoop
from prunelit.training.packed.generators import Generators
from prunelit.training.packed.service import serve
from prunelit.turns import current, take_turns


def train_in_turns(
    tasks: Sequence[Callable[[], Any]], states: Sequence[Any], interruption: Interruption, threads: int | None
) -> list[Any]:
    """Return what each of ``tasks`` returned or raised, None if it did not begin; each does one run.

    Args:
        tasks: the runs.
        states: parts of the state of the process that each run has for itself.
        interruption: a signal lets all runs save and end.
        threads: the number of threads of the group; None: as many as torch has chosen.
    """
    number = threads or torch.get_num_threads()
    return take_turns(
        tasks,
        lambda stretches: serve(stretches, interruption, number),
        [Generators(), *states],
        lambda: interruption.asked is None,
        interruption,
    )


def epoch_loop(trainer: pl.Trainer) -> _TrainingEpochLoop:
    """Return the training loop of a run: with its group, if this thread belongs to one, else by itself."""
    member = current()
    return EpochLoop(trainer) if member is None else PackedEpochLoop(trainer, member)
