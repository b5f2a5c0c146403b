"""The number of epochs of a learning-rate schedule: of the run, or of one level if the schedule restarts.

A level is the training between two prunings. The length cannot be written into the config, because a
pruner may need more epochs than were asked for.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, OmegaConf

from prunelit.notice import warn
from prunelit.training.callback import Pruning

OF_THE_CONFIG = "${epochs}"
"""An argument with this value is replaced by the length of the schedule in epochs."""


def arguments(node: DictConfig, epochs: int) -> dict[str, Any]:
    """Return the arguments of a schedule that lasts ``epochs`` and that follow from this length.

    These are the ones written as ``${epochs}``, such as ``T_max`` of ``scheduler=cosine``, and milestones
    below 1, which are shares of the length.
    """
    epochs = max(1, epochs)
    written: Any = OmegaConf.to_container(node, resolve=False)
    found: dict[str, Any] = {str(key): epochs for key, value in written.items() if value == OF_THE_CONFIG}
    milestones = node.get("milestones")
    if OmegaConf.is_list(milestones) and any(isinstance(m, float) and 0 < m < 1 for m in milestones):
        shares = [round(m * epochs) if isinstance(m, float) and 0 < m < 1 else m for m in milestones]
        found["milestones"] = shares
    return found


def first_length(pruning: Pruning | None, epochs: int) -> int:
    """Return how many epochs the schedule lasts that a run of ``epochs`` begins with."""
    if pruning is None or not pruning.retraining.restarts:
        return epochs
    ends = (pruning.moment.end_of_level(done, len(pruning.steps), epochs) for done in (0, 1))
    return next((end for end in ends if end), epochs)


def warn_of_late_milestones(node: DictConfig, epochs: int) -> None:
    """Warn where milestones come after the last epoch of the schedule, so that they change nothing."""
    milestones = arguments(node, epochs).get("milestones", node.get("milestones"))
    late = [m for m in milestones or [] if isinstance(m, int) and m >= epochs > 0]
    if late:
        warn(
            f"scheduler.milestones: {', '.join(map(str, late))} come after the {epochs} epochs of "
            f"training and have no effect (numbers below 1 are fractions of the epochs: [0.5, 0.75])"
        )


class ScheduleLength(Callback):
    """Gives a schedule that a pruning takes back the length of the level that begins there."""

    def __init__(self, node: DictConfig) -> None:
        self.node = node

    def on_after_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning) -> None:
        """Let the schedule end with the level."""
        end = pruning.moment.end_of_level(pruning.num_done, len(pruning.steps), trainer.max_epochs or 0)
        for config in trainer.lr_scheduler_configs:
            schedule: Any = config.scheduler
            taken_back = getattr(schedule, "last_epoch", None) != trainer.current_epoch
            if pruning.retraining.restarts or taken_back:
                length = getattr(schedule, "last_epoch", 0) + end - trainer.current_epoch
                for name, value in arguments(self.node, length).items():
                    setattr(schedule, name, Counter(value) if name == "milestones" else value)
