"""Find what scores are taken on: batches, loss and network of any LightningModule in any Trainer."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from types import MethodType
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.combined_loader import CombinedLoader
from torch import Tensor, nn
from torch.utils.data import (
    DataLoader,
    DistributedSampler,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
)
from torchmetrics import Metric

from prunelit.pruning.objective import Batch, Objective
from prunelit.pruning.preserve import modes, random_state
from prunelit.request import BadRequest
from prunelit.training.network_call import network_inputs

DEFAULT_BATCH_SIZE = 256


@dataclass(frozen=True)
class Sample:
    """Which training data a criterion is scored on.

    Attributes:
        samples_per_class: images of every class, drawn by seed. Needs a data module with
            ``scoring_batches`` (prunelit's have it); from others one batch is taken.
        batches: so many random batches instead; both None: the whole training set.
        batch_size: of the scoring batches; None: a DataLoader's own, or 256.
    """

    samples_per_class: int | None = 10
    batches: int | None = None
    batch_size: int | None = None

    def __post_init__(self) -> None:
        for key in ("samples_per_class", "batches", "batch_size"):
            value = getattr(self, key)
            if value is not None and (not isinstance(value, int) or value < 1):
                raise BadRequest(f"pruner.{key}", value, "an integer of 1 or more, or null")


def build_objective(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    root: nn.Module,
    needs: str,
    sample: Sample,
    seed: int,
) -> Objective:
    """Return the objective of a module in a running ``fit``: its own batches, loss and input.

    ``root`` is the part to prune. Call inside :func:`undisturbed`. For a criterion that needs only
    an example input one batch is drawn.
    """
    with random_state(seed):
        sample = sample if needs == "batches" else Sample(samples_per_class=1, batches=None)
        batches = [trainer.strategy.batch_to_device(b) for b in _batches(trainer, sample, seed)]
    if not batches:
        raise BadRequest("pruner.batches", sample.batches, "a training set with at least one batch")
    device = next(pl_module.parameters()).device
    batches = [pl_module.transfer_batch_to_device(batch, device, 0) for batch in batches]
    loss = training_loss(pl_module)
    if needs == "batches":
        # Ranks share the batches; gradients are summed over ranks before anything is made of them.
        places = range(trainer.global_rank, len(batches), trainer.world_size)
        own = [batches[place] for place in places]
        head = getattr(pl_module, "pruning_head", None)
        add_up = partial(trainer.strategy.reduce, reduce_op="sum")
        return Objective(loss, own, (), add_up, head, batches[0], places)
    return Objective(loss, batches, network_inputs(pl_module, root, loss, batches[0]))


def _batches(trainer: pl.Trainer, sample: Sample, seed: int) -> list[Batch]:
    datamodule: Any = getattr(trainer, "datamodule", None)
    if datamodule is not None and hasattr(datamodule, "scoring_batches"):
        size = sample.batch_size or DEFAULT_BATCH_SIZE
        per_class = sample.samples_per_class if sample.batches is None else None
        return list(datamodule.scoring_batches(per_class, sample.batches, size))
    count = sample.batches if sample.samples_per_class is None else sample.batches or 1
    return list(islice(_fresh_iterator(trainer.train_dataloader, sample.batch_size, seed), count))


def _fresh_iterator(loader: Any, batch_size: int | None, seed: int) -> Iterable[Batch]:
    """Iterate over ``loader``'s data without moving the loader's own iterator or generator.

    A map-style DataLoader with a standard sampler is read through a sibling with its own seeded
    order; anything else is iterated as it is.
    """
    if isinstance(loader, DataLoader) and not isinstance(loader.dataset, IterableDataset):
        size = batch_size or loader.batch_size
        standard = (SequentialSampler, RandomSampler, DistributedSampler)
        if size is not None and isinstance(loader.sampler, standard):
            dataset: Any = loader.dataset
            order = RandomSampler(dataset, generator=torch.Generator().manual_seed(seed))
            return DataLoader(dataset, size, sampler=order, collate_fn=loader.collate_fn)
    if isinstance(loader, DataLoader):
        loader = copy.copy(loader)
        if isinstance(loader.generator, torch.Generator):
            loader.generator = loader.generator.clone_state()
        return loader
    if isinstance(loader, (Mapping, list, tuple)):
        return (batch for batch, _, _ in iter(CombinedLoader(loader, "max_size_cycle")))
    return loader


def training_loss(pl_module: pl.LightningModule) -> Callable[[Batch], Tensor]:
    """Return the module's mean loss of one batch: its ``pruning_loss(batch)``, or its ``training_step``.

    Raises:
        ValueError: the module optimises by hand, so that its training step gives no loss.
    """
    own: Callable[[Batch], Tensor] | None = getattr(pl_module, "pruning_loss", None)
    if own is not None:
        return own
    name = type(pl_module).__name__
    if not pl_module.automatic_optimization:
        raise ValueError(
            f"{name} optimises by hand, so pruning finds no loss: "
            "give it a pruning_loss(batch) method that returns the mean loss of a batch"
        )
    extra = len(inspect.signature(pl_module.training_step).parameters) - 1

    def loss(batch: Batch) -> Tensor:
        output: Any = pl_module.training_step(batch, *[0] * extra)
        value = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise ValueError(
                f"{name}.training_step gives no differentiable scalar loss: "
                "give the module a pruning_loss(batch) method that returns the mean loss of a batch"
            )
        return value

    return loss


@contextmanager
def undisturbed(pl_module: pl.LightningModule, root: nn.Module) -> Iterator[None]:
    """Let training steps run for scores alone: nothing is logged, counted or kept.

    Restores torchmetrics states, the random state, and modes and buffers outside ``root``, the
    part that is pruned; ``prune`` itself looks after ``root``.
    """
    metrics = [module for module in pl_module.modules() if isinstance(module, Metric)]
    states: list[tuple[Metric, dict[str, Any], int, Any]] = [
        (m, copy.deepcopy(dict(m.metric_state)), m._update_count, m._computed) for m in metrics
    ]
    inside = {id(buffer) for buffer in root.buffers()}
    buffers = [(b, b.clone()) for b in pl_module.buffers() if id(b) not in inside]
    with (
        _batch_norm_alone(pl_module),
        _shadowed(pl_module, "log", "log_dict", "forward"),
        _shadowed(root, "forward"),
        modes(pl_module),
    ):
        pl_module.__dict__.update(log=_nothing, log_dict=_nothing)
        try:
            with random_state(0):
                yield
        finally:
            for buffer, value in buffers:
                buffer.copy_(value)
            for metric, state, count, computed in states:
                for key, value in state.items():
                    setattr(metric, key, value)
                metric._update_count, metric._computed = count, computed


@contextmanager
def _batch_norm_alone(module: nn.Module) -> Iterator[None]:
    """Let SyncBatchNorm normalise each batch by itself: other ranks may have none at the same time."""
    with ExitStack() as stack:
        for part in module.modules():
            if isinstance(part, nn.SyncBatchNorm):
                stack.enter_context(_shadowed(part, "forward"))
                part.__dict__["forward"] = MethodType(nn.BatchNorm2d.forward, part)
        yield


@contextmanager
def _shadowed(module: nn.Module, *names: str) -> Iterator[None]:
    """Let instance attributes stand before methods inside the block; take them away after it."""
    before = {name: module.__dict__[name] for name in names if name in module.__dict__}
    try:
        yield
    finally:
        for name in names:
            module.__dict__.pop(name, None)
        module.__dict__.update(before)


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None
