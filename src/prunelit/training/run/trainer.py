"""The Trainer of a run: its arguments, and which devices and strategies it may have."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from omegaconf import DictConfig, open_dict

from prunelit.interruption import Interruption
from prunelit.request import BadRequest
from prunelit.training.callback import Pruning
from prunelit.training.checkpoints.contents import WholeFiles
from prunelit.training.checkpoints.last_checkpoint import LastCheckpoint
from prunelit.training.config.instantiate import build_foreign
from prunelit.training.config.run_logger import build_logger
from prunelit.training.lightning_overhead import Checkpoint, NoProfiler, forget_nvml_check
from prunelit.training.packed.group import epoch_loop
from prunelit.training.parallel.sharding import check_strategy
from prunelit.training.run.progress_bar import Progress


def build_trainer(
    cfg: DictConfig,
    epochs: int,
    folder: Path,
    callbacks: list[Callback],
    bar: Progress | None,
    interruption: Interruption | None = None,
    inference_mode: bool = True,
) -> pl.Trainer:
    """Return the Trainer, with checkpoints, logger and the progress bar ``bar``."""
    check_trainer(cfg)
    monitor = "validation/top1" if cfg.data.validation else "test/top1"
    checkpoints: list[Callback] = [
        Checkpoint(folder / "checkpoints", "best", monitor=monitor, mode="max", enable_version_counter=False),
        # After the best, which it knows of then.
        LastCheckpoint(folder / "checkpoints", interruption, cfg.sweep.checkpoint_minutes),
    ]
    defaults: dict[str, Any] = {"profiler": NoProfiler(), "inference_mode": inference_mode}
    logger = build_logger(cfg, folder)
    trainer: pl.Trainer = build_foreign(
        without_own_keys(cfg.trainer),
        max_epochs=epochs,
        default_root_dir=str(folder),
        callbacks=[*callbacks, *checkpoints, *([bar] if bar else [])],
        logger=logger or False,
        enable_progress_bar=bar is not None,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        log_every_n_steps=0,
        **{key: value for key, value in defaults.items() if key not in cfg.trainer},
    )
    trainer.fit_loop.epoch_loop = epoch_loop(trainer)
    trainer.strategy.checkpoint_io = WholeFiles()
    for callback in callbacks:
        if isinstance(callback, Pruning):
            check_strategy(trainer.strategy, callback.criterion)
    forget_nvml_check()
    return trainer


def without_own_keys(trainer: DictConfig) -> DictConfig:
    """Return the node of the Trainer's arguments, without the keys that are prunelit's own."""
    node = trainer.copy()
    with open_dict(node):
        for key in ("threads", "compile", "channels_last"):
            node.pop(key, None)
    return node


def try_trainer(cfg: DictConfig) -> None:
    """Raise BadRequest for what would make no Trainer; the one that is made leaves nothing."""
    check_trainer(cfg)
    nothing = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    given: dict[str, Any] = dict.fromkeys(nothing, False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself gives them
        build_foreign(without_own_keys(cfg.trainer), **given)


def check_trainer(cfg: DictConfig) -> None:
    """Raise BadRequest for a device that this machine lacks."""
    accelerator, devices = cfg.trainer.accelerator, cfg.trainer.devices
    if (
        accelerator in ("gpu", "cuda")
        and not torch.cuda.is_available()
        and not torch.backends.mps.is_available()
    ):
        raise BadRequest("trainer.accelerator", accelerator, "cpu or auto", "this machine has no GPU")
    if isinstance(devices, int) and accelerator in ("gpu", "cuda") and devices > torch.cuda.device_count():
        raise BadRequest("trainer.devices", devices, f"at most {torch.cuda.device_count()}")
    if devices != "auto" and devices in (-1, "-1") and not torch.cuda.is_available():
        raise BadRequest("trainer.devices", devices, "an integer >= 1", "this machine has no GPU to count")
    if devices != 1 and cfg.data.get("eval_batch_size") == 1:
        # A share with an image less cannot have as many batches, and its rank would be waited for.
        raise BadRequest("data.eval_batch_size", 1, "2 or more", "there are several devices")
    check_strategy_name(cfg)


def check_strategy_name(cfg: DictConfig) -> None:
    """Raise BadRequest for a strategy that masks do not hold under or that starts processes itself."""
    strategy, precision = cfg.trainer.strategy, cfg.trainer.precision
    ddp = ("ddp", "ddp_find_unused_parameters_true")
    if isinstance(strategy, str) and strategy not in ("auto", *ddp, "fully_shard"):
        raise BadRequest("trainer.strategy", strategy, f"auto, {', '.join(ddp)}, fully_shard, or a _target_")
    if strategy == "fully_shard" and cfg.trainer.get("compile"):
        raise BadRequest("trainer.compile", True, "false", "trainer.strategy is fully_shard")
    if strategy == "fully_shard" and precision not in ("32-true", "bf16-mixed", "bf16-true", "16-true"):
        why = "trainer.strategy is fully_shard"
        raise BadRequest("trainer.precision", precision, "32-true, bf16-mixed, bf16-true or 16-true", why)
