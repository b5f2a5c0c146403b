"""The parts of a run: what its config makes, and its fit."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig
from torch import nn

from prunelit.amount import Amount
from prunelit.interruption import Interruption
from prunelit.pruning.masks import attached
from prunelit.request import within
from prunelit.training.callback import Pruning
from prunelit.training.checkpoints.contents import save_again, start_from
from prunelit.training.checkpoints.last_checkpoint import checkpoint_to_resume
from prunelit.training.config.keys import check_config
from prunelit.training.config.run_logger import closing_loggers
from prunelit.training.data import ImageData
from prunelit.training.hold_masks import HoldMasks
from prunelit.training.measuring.logged import log_result
from prunelit.training.measuring.measurements import Measurements
from prunelit.training.module import Classifier
from prunelit.training.parallel import threads
from prunelit.training.run import from_config, machine
from prunelit.training.run.progress_bar import Progress
from prunelit.training.run.schedule_length import ScheduleLength, first_length, warn_of_late_milestones
from prunelit.training.run.trainer import build_trainer, try_trainer


@dataclass(frozen=True)
class Parts:
    """The objects of one run; ``pruning`` is None for the dense baseline, of a network without masks."""

    pruning: Pruning | None
    data: ImageData
    network: nn.Module
    module: Classifier
    measured: Measurements
    trainer: pl.Trainer
    epochs: int

    @property
    def device(self) -> str:
        """The device as this machine names it, such as ``cuda:3``."""
        return machine.device_name(self.trainer)

    @contextmanager
    def settings(self, cfg: DictConfig) -> Iterator[None]:
        """Compute with the threads of the run inside the block, and close its loggers at the end.

        Subnormal numbers are 0 in the block. Wrong requests that are raised inside it name the full keys of
        the config.
        """
        known = self.data.preview()
        shape = known[1] if known else self.data.input_shape
        with (
            closing_loggers(self.trainer),
            from_config.full_keys(cfg),
            threads.put_back() as available,
            threads.subnormals_as_zero(),
        ):
            work = threads.work(self.network, shape, cfg.batch_size)
            torch.set_num_threads(threads.choose(cfg.trainer.get("threads"), work, available))
            yield

    def fit(self, checkpoints: Path) -> None:
        """Prune and train, from the last of ``checkpoints`` on if there is one."""
        last = checkpoint_to_resume(checkpoints)
        self.trainer.fit(self.module, datamodule=self.data, ckpt_path=last, weights_only=True)
        pruned_last = self.pruning is not None and self.pruning.moment.after_training
        if self.epochs or pruned_last:
            save_again(self.trainer, checkpoints, pruned_last)

    def log_result(self, hyperparameters: dict[str, Any], result: dict[str, Any]) -> None:
        """Send the final numbers to the loggers."""
        log = partial(log_result, self.trainer, hyperparameters, result)
        self.measured.attempt("the result in a logger", log)


def assemble(
    cfg: DictConfig,
    folder: Path,
    epochs_changed: Callable[[list[dict[str, Any]]], None],
    interruption: Interruption,
    bar: str = "none",
) -> Parts:
    """Return the objects of a run; what can be refused is refused before data is loaded.

    Args:
        cfg: the run's config.
        folder: of the run.
        epochs_changed: called with all rows of ``metrics.csv`` after every epoch.
        interruption: signals that end the run.
        bar: a progress bar at a terminal: ``none``, or one that ``goes`` or ``stays`` in the end.

    Raises:
        BadRequest: a wrong value.
    """
    machine.forget_peak_memory()
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    check_config(cfg)
    pruning = from_config.build_pruning(cfg, Amount.of(cfg))
    data = from_config.build_data(cfg)
    with within("data", cfg.data):
        data.check()
    network, num_classes = _network(cfg, data, pruning)
    epochs = from_config.num_epochs(cfg, pruning)
    if pruning is None and attached(network):
        pruning = HoldMasks(network="network")
    measured = Measurements(pruning, epochs_changed)
    distillation = from_config.build_distillation(cfg, pruning)
    callbacks: list[Any] = [c for c in (measured, pruning, distillation) if c is not None]
    callbacks.append(ScheduleLength(cfg.scheduler))
    length = first_length(pruning, epochs)
    warn_of_late_milestones(cfg.scheduler, length)
    # Parts made by torch.jit fail in inference mode.
    inference_mode = not any(isinstance(part, torch.jit.ScriptModule) for part in network.modules())
    shown = _progress(bar)
    trainer = build_trainer(cfg, epochs, folder, callbacks, shown, interruption, inference_mode)
    module = from_config.build_module(cfg, network, num_classes, length, distillation)
    return Parts(pruning, data, network, module, measured, trainer, epochs)


def _progress(bar: str) -> Progress | None:
    return None if bar == "none" else Progress(stays=bar == "stays")


def try_parts(cfg: DictConfig) -> None:
    """Make what may be refused and leave it: no data is loaded, and no folder made.

    Raises:
        BadRequest: a wrong value.
    """
    check_config(cfg)
    pruning = from_config.build_pruning(cfg, Amount.of(cfg))
    from_config.build_distillation(cfg, pruning)
    data = from_config.build_data(cfg)
    with within("data", cfg.data):
        data.check()
    try_trainer(cfg)
    with within("data", cfg.data):
        known = data.preview() is not None
    if known:
        _network(cfg, data, pruning)


def _network(cfg: DictConfig, data: ImageData, pruning: Pruning | None) -> tuple[nn.Module, int]:
    """Return the network that the run starts from, and the number of classes."""
    network, num_classes = from_config.build_network(cfg, data)
    if cfg.checkpoint is not None:
        start_from(network, cfg.checkpoint, cfg.checkpoint_strict)
    if pruning is not None:
        with from_config.full_keys(cfg):
            pruning.check(network)
    from_config.try_optimizer(cfg, network)
    return network, num_classes
