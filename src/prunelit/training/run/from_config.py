"""The data, network, pruning callback, optimizer and module that a config describes."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from omegaconf import DictConfig, ListConfig
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from prunelit.amount import KEYS, Amount
from prunelit.notice import warn
from prunelit.pruning import criteria
from prunelit.pruning.criteria import Criterion
from prunelit.pruning.preserve import modes
from prunelit.request import BadRequest, nearest, within
from prunelit.training.callback import Pruning
from prunelit.training.checkpoints.contents import densities_of
from prunelit.training.compiled_forward import with_channels_last
from prunelit.training.config.instantiate import build, build_foreign
from prunelit.training.data import ImageData
from prunelit.training.fit.distillation import Distillation
from prunelit.training.fit.timing import When, settle
from prunelit.training.module import Classifier
from prunelit.training.run import schedule_length


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
    """Return the network of a config node, with all its parameters.

    It is in train mode. A function that loads a network, such as ``prunelit.load``, may return it in
    evaluation mode. Parts of a network in train mode keep the mode that they are in.
    """
    network: nn.Module = build(node, num_classes=num_classes, input_shape=input_shape)
    if any(isinstance(parameter, UninitializedParameter) for parameter in network.parameters()):
        with modes(network), torch.no_grad():  # lazy layers take their sizes from a first image
            network.eval()(torch.zeros(1, *input_shape))
    return network if network.training else network.train()


def build_distillation(cfg: DictConfig, pruning: Pruning | None) -> Distillation | None:
    """Return the callback that keeps the dense network for the loss, None if the loss is not to need it.

    Raises:
        BadRequest: no training follows a pruning.
    """
    if not cfg.distillation:
        return None
    if pruning is None or pruning.moment.after_training:
        why = "nothing is pruned" if pruning is None else "no training follows the pruning"
        raise BadRequest("distillation", cfg.distillation, "0", why)
    return Distillation(cfg.distillation, cfg.distillation_temperature)


def build_module(
    cfg: DictConfig, network: nn.Module, num_classes: int, length: int, distillation: Distillation | None
) -> Classifier:
    """Return the LightningModule with optimizer, loss options and a schedule that lasts ``length`` epochs."""

    def scheduler(optimizer: Any) -> Any:
        return build(cfg.scheduler, optimizer=optimizer, **schedule_length.arguments(cfg.scheduler, length))

    optimizer = partial(build_optimizer, cfg)
    has_schedule = "_target_" in cfg.scheduler
    chosen = scheduler if has_schedule else None
    if cfg.trainer.get("channels_last"):
        with_channels_last(network)
    compiles = bool(cfg.trainer.get("compile"))
    return Classifier(network, num_classes, optimizer, chosen, cfg.label_smoothing, distillation, compiles)


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
    """Return the criterion of a config node; a name is the name of its file, and uses its defaults."""
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


def build_pruning(cfg: DictConfig, amount: Amount) -> Pruning | None:
    """Return the pruning callback, None for the dense baseline."""
    if cfg.pruner.criterion is None:
        return None
    # Without a number, Timing says when the first pruning comes; weights that are given count as trained.
    is_trained = cfg.checkpoint is not None or not cfg.epochs
    # An amount takes precedence over a threshold; the thresholds of a list are evaluated all the same.
    unused = () if amount.is_decided or isinstance(cfg.pruner.threshold, ListConfig) else ("threshold",)
    with full_keys(cfg):
        pruning: Pruning = build(
            cfg.pruner,
            *("criterion", "compression", "densities_from", "when", *unused),
            layer_densities=densities_of(cfg.pruner.densities_from),
            criterion=build_criterion(cfg.pruner.criterion),
            **{key: getattr(amount, key) for key in KEYS},
            pre_epochs=cfg.pre_epochs or (0 if is_trained else None),
            when=_settled(cfg)[0],
            network="network",
            seed=cfg.seed,
        )
    return pruning


def _settled(cfg: DictConfig) -> tuple[When, int]:
    """Return when the run prunes, and the epochs that it requests besides those that the timing adds."""
    return settle(cfg.pruner.when, cfg.pre_epochs, cfg.epochs, cfg.pruner.grow.at is not None)


@contextmanager
def full_keys(cfg: DictConfig) -> Iterator[None]:
    """Complete the keys of wrong requests that callback, criterion or data raise inside the block."""
    node = cfg.pruner.criterion
    criterion = {str(key) for key in node} if isinstance(node, DictConfig) else set()
    own = {str(key) for key in cfg.pruner} - set(KEYS)
    data = {str(key) for key in cfg.data} - own
    with within("pruner", own), within("pruner.criterion", criterion - own), within("data", data):
        try:
            yield
        except BadRequest as error:
            if error.key != "layer_densities":
                raise
            run = cfg.pruner.densities_from
            raise BadRequest("densities_from", run, error.allowed, error.why) from error


def num_epochs(cfg: DictConfig, pruning: Pruning | None) -> int:
    """Return the epochs of the whole run: as requested, or as many as the pruner's rounds need.

    Warns where no epochs are requested and the rounds need some.
    """
    if pruning is None:
        return int(cfg.pre_epochs + cfg.epochs)
    epochs = pruning.moment.run_epochs(_settled(cfg)[1], len(pruning.steps))
    if epochs and not cfg.pre_epochs + cfg.epochs:
        length = "an epoch" if epochs == 1 else f"{epochs} epochs"
        warn(
            f"epochs=0: the run trains for {length}, because pruner.when=epoch prunes at the start of an "
            "epoch (pruner.when=start prunes without training)"
        )
    return epochs
