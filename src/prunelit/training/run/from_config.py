"""Config nodes to objects."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler
from omegaconf import DictConfig, open_dict
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from prunelit.interruption import Interruption
from prunelit.pruning import criteria
from prunelit.pruning.criteria import Criterion
from prunelit.pruning.preserve import modes
from prunelit.request import BadRequest, nearest, within
from prunelit.training.callback import Pruning
from prunelit.training.checkpoints.contents import WholeFiles, densities_of
from prunelit.training.checkpoints.last_checkpoint import LastCheckpoint
from prunelit.training.config.instantiate import build, build_foreign
from prunelit.training.config.run_logger import build_logger
from prunelit.training.data import ImageData
from prunelit.training.fit.timing import When, settle
from prunelit.training.module import Classifier
from prunelit.training.parallel.sharding import check_strategy
from prunelit.training.run import schedule_length
from prunelit.training.run.progress_bar import Progress


def build_data(cfg: DictConfig) -> ImageData:
    """Return the data module; nothing is read yet."""
    data: ImageData = build(cfg.data)
    return data


def build_network(cfg: DictConfig, data: ImageData) -> tuple[nn.Module, int]:
    """Return the network for the data's classes and images, and the number of classes.

    Reads no images where a look at the data tells classes and shape: a wrong request is refused before.
    """
    with within("data", cfg.data):
        known = data.preview()
    if known is None:
        with within("data", cfg.data):
            data.prepare_data()
            data.setup()
        known = data.num_classes, data.input_shape
    num_classes, input_shape = known
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    return make_network(cfg.model, num_classes, input_shape), num_classes


def make_network(node: DictConfig, num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Return the network of a config node, with all its parameters."""
    network: nn.Module = build(node, num_classes=num_classes, input_shape=input_shape)
    if any(isinstance(parameter, UninitializedParameter) for parameter in network.parameters()):
        with modes(network), torch.no_grad():  # lazy layers take their sizes from a first image
            network.eval()(torch.zeros(1, *input_shape))
    return network


def build_module(cfg: DictConfig, network: nn.Module, num_classes: int, length: int) -> Classifier:
    """Return the LightningModule with optimizer, loss options and a schedule that lasts ``length`` epochs."""

    def scheduler(optimizer: Any) -> Any:
        return build(cfg.scheduler, optimizer=optimizer, **schedule_length.arguments(cfg.scheduler, length))

    optimizer = partial(build_optimizer, cfg)
    has_schedule = "_target_" in cfg.scheduler
    return Classifier(
        network, num_classes, optimizer, scheduler if has_schedule else None, cfg.label_smoothing
    )


def build_optimizer(cfg: DictConfig, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return the optimizer; ``fused: auto`` is settled by what Lightning and the kernel allow."""
    given: dict[str, Any] = {}
    trained = list(parameters)
    if cfg.optimizer.get("fused") == "auto":
        clips_mixed = str(cfg.trainer.precision).endswith("mixed") and cfg.trainer.gradient_clip_val
        given["fused"] = not clips_mixed and all(p.is_floating_point() for p in trained)
    optimizer: torch.optim.Optimizer = build_foreign(cfg.optimizer, params=trained, **given)
    return optimizer


def try_optimizer(cfg: DictConfig, network: nn.Module) -> None:
    """Raise BadRequest for an optimizer or a schedule that could not be made, or not go on for an epoch."""

    def step(schedule: Any) -> None:
        if cfg.epochs and isinstance(schedule, LRScheduler) and not isinstance(schedule, ReduceLROnPlateau):
            schedule.step()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no step of the optimizer came first
        optimizer = build_optimizer(cfg, network.parameters())
        build_foreign(cfg.scheduler, step, optimizer=optimizer)
    eps = optimizer.defaults.get("eps")
    if cfg.trainer.precision == "16-true" and eps and not torch.tensor(eps, dtype=torch.float16):
        why = "in float16, trainer.precision=16-true, it is 0, and weights become nan"
        raise BadRequest("optimizer.eps", eps, "6e-8 or more, such as +optimizer.eps=1e-4", why)


def build_criterion(node: DictConfig | str) -> Criterion:
    """Return the criterion of a config node; a name is that of its file, and gives it its defaults."""
    if not isinstance(node, str):
        criterion: Criterion = build(node)
        if not isinstance(criterion, Criterion):
            raise BadRequest("pruner.criterion._target_", node._target_, "a subclass of prunelit.Criterion")
        return criterion
    classes = [value for value in vars(criteria).values() if isinstance(value, type)]
    known = {found.__module__.rpartition(".")[2]: found for found in classes if found is not Criterion}
    if node not in known:
        raise BadRequest("pruner.criterion", node, nearest(node, known))
    named: Criterion = known[node]()
    return named


def build_pruning(cfg: DictConfig, compression: float | None, sparsity: float | None) -> Pruning | None:
    """Return the pruning callback, None for the dense baseline."""
    if cfg.pruner.criterion is None:
        return None
    # Without a number, Timing says when the first pruning comes; weights that are given count as trained.
    is_trained = cfg.checkpoint is not None or not cfg.epochs
    try:
        pruning: Pruning = build(
            cfg.pruner,
            *("criterion", "compression", "densities_from", "when"),
            layer_densities=densities_of(cfg.pruner.densities_from),
            criterion=build_criterion(cfg.pruner.criterion),
            compression=compression,
            sparsity=sparsity,
            pre_epochs=cfg.pre_epochs or (0 if is_trained else None),
            when=_settled(cfg)[0],
            network="network",
            seed=cfg.seed,
        )
    except BadRequest as error:
        if error.key != "layer_densities":
            raise
        run = cfg.pruner.densities_from
        raise BadRequest("pruner.densities_from", run, error.allowed, error.why) from error
    return pruning


def _settled(cfg: DictConfig) -> tuple[When, int]:
    """Return when the run prunes, and the epochs that it requests besides those that the timing adds."""
    return settle(cfg.pruner.when, cfg.pre_epochs, cfg.epochs, cfg.pruner.grow.at is not None)


@contextmanager
def full_keys(cfg: DictConfig) -> Iterator[None]:
    """Complete the keys of wrong requests that callback, criterion or data raise inside the block."""
    node = cfg.pruner.criterion
    criterion = {str(key) for key in node} if isinstance(node, DictConfig) else set()
    own = {str(key) for key in cfg.pruner} - {"compression", "sparsity"}
    data = {str(key) for key in cfg.data} - own
    with within("pruner", own), within("pruner.criterion", criterion - own), within("data", data):
        yield


def num_epochs(cfg: DictConfig, pruning: Pruning | None) -> int:
    """Return the epochs of the whole run: as asked, or as many as the pruner's rounds need."""
    if pruning is None:
        return int(cfg.pre_epochs + cfg.epochs)
    return pruning.moment.run_epochs(_settled(cfg)[1], len(pruning.steps))


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
        without_threads(cfg.trainer),
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
    trainer.strategy.checkpoint_io = WholeFiles()
    for callback in callbacks:
        if isinstance(callback, Pruning):
            check_strategy(trainer.strategy, callback.criterion)
    if not torch.cuda.is_available():
        # Lightning's choice for machines with a GPU; without one it costs each optimizer step 50 us.
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
    return trainer


def without_threads(trainer: DictConfig) -> DictConfig:
    """Return the node of the Trainer's arguments: ``threads`` is prunelit's own."""
    node = trainer.copy()
    with open_dict(node):
        node.pop("threads", None)
    return node


def try_trainer(cfg: DictConfig) -> None:
    """Raise BadRequest for what would make no Trainer; the one that is made leaves nothing."""
    check_trainer(cfg)
    nothing = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    given: dict[str, Any] = dict.fromkeys(nothing, False)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the run itself gives them
        build_foreign(without_threads(cfg.trainer), **given)


class Checkpoint(ModelCheckpoint):
    """Costs a step next to nothing, though Lightning calls a dozen hooks of every callback in each."""

    # What is not callable is passed over.
    on_train_batch_start = on_before_zero_grad = on_before_backward = None  # type: ignore[assignment]
    on_after_backward = on_before_optimizer_step = None  # type: ignore[assignment]

    @cached_property
    def state_key(self) -> str:
        """The arguments that tell one from another; asked for at each hook."""
        return super().state_key


class NoProfiler(PassThroughProfiler):
    """Measures nothing: Lightning enters a profiler's context some fifty times a step."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Return a context that does nothing, always the same one."""
        return self.nothing


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
    if strategy == "fully_shard" and precision not in ("32-true", "bf16-mixed", "bf16-true", "16-true"):
        why = "trainer.strategy is fully_shard"
        raise BadRequest("trainer.precision", precision, "32-true, bf16-mixed, bf16-true or 16-true", why)
