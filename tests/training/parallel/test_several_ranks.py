"""Runs shared by two ranks are those of one process; real processes, over gloo on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.utils.data import DataLoader, TensorDataset

import prunelit
from prunelit import Criterion, Pruning
from prunelit.pruning import criteria
from prunelit.pruning.masks import Masks
from prunelit.training import network_pruner
from prunelit.training.data import ImageData
from prunelit.training.measuring.evaluation import evaluate_test
from prunelit.training.module import Classifier
from prunelit.training.parallel.agreement import RanksDisagree
from prunelit.training.parallel.sharding import gathered, whole
from stock import QUIET

ON_RANKS: dict[str, Any] = {**QUIET, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
ROUNDS: dict[str, tuple[Criterion, dict[str, Any]]] = {
    "iterative snip": (prunelit.SNIP(), {"when": "epoch", "rounds": 2, "pre_epochs": 1}),
    "lottery": (prunelit.Mag(), {"when": "epoch", "rounds": 2, "pre_epochs": 1, "rewind": "init"}),
    "rigl": (prunelit.Rand(), {"scope": "erk", "grow": {"at": "gradient", "share": 0.3}}),
    "set": (prunelit.Rand(), {"scope": "er", "grow": {"at": "random", "share": 0.3}}),
    "after": (prunelit.Taylor(), {"when": "end"}),
}


def every_criterion() -> dict[str, Criterion]:
    kinds = [getattr(criteria, name) for name in criteria.__all__ if name != "Criterion"]
    made = {kind.__name__: kind(probes=5) if kind is prunelit.Hessian else kind() for kind in kinds}
    return {name: criterion for name, criterion in made.items() if criterion.observes == "never"}


def network(norm: bool) -> nn.Module:
    torch.manual_seed(0)
    between = nn.BatchNorm2d(4) if norm else nn.Identity()
    if norm:
        nn.init.uniform_(between.weight)  # Equal scales would decide nothing.
    return nn.Sequential(nn.Conv2d(1, 4, 3, stride=2), between, nn.ReLU(), nn.Flatten(), nn.Linear(36, 10))


def fit(pruning: Pruning, epochs: int, norm: bool = False, **options: Any) -> tuple[pl.Trainer, Classifier]:
    """Train the network on the digits, 64 images a step over all ranks."""
    data = ImageData("digits", seed=0, batch_size=64 // options.get("devices", 1))
    module = Classifier(network(norm), 10, partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3))
    trainer = pl.Trainer(max_epochs=epochs, callbacks=[pruning, Watch(pruning)], **ON_RANKS, **options)
    trainer.fit(module, datamodule=data)
    return trainer, module


class Watch(pl.Callback):
    """After every step: each pruned weight is exactly 0, and all ranks hold the same weights."""

    def __init__(self, pruning: Pruning) -> None:
        self.pruning, self.steps = pruning, 0

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if not trainer.fit_loop.epoch_loop._should_accumulate():
            self.steps += 1
        held = {name: whole(p.detach()) for name, p in self.pruning.network(pl_module).named_parameters()}
        for name, mask in self.pruning.masks.items():
            assert held[name][~mask].eq(0).all()
        if trainer.world_size > 1:
            rows: list[Any] = [None] * trainer.world_size
            torch.distributed.all_gather_object(rows, [weights.tolist() for weights in held.values()])
            assert rows == rows[:1] * trainer.world_size


def train_by_each(**options: Any) -> dict[str, dict[str, Any]]:
    """Masks, weights and what was counted of networks pruned while they train and after it."""
    found = {}
    for name, (criterion, more) in ROUNDS.items():
        pruning = Pruning(criterion, sparsity=0.6, network="network", **more)
        trainer, module = fit(pruning, 3, **options)
        counted = {**module.train_totals.compute(), **evaluate_test(trainer, module).__dict__}
        with gathered(module):
            weights = {n: value.clone() for n, value in module.network.state_dict().items()}
        masks = {f"mask {n}": mask for n, mask in pruning.masks.items()}
        found[name] = {key: np.asarray(value) for key, value in {**counted, **masks, **weights}.items()}
    return found


def prune_by_each(**options: Any) -> dict[str, dict[str, np.ndarray]]:
    """Masks and scores of an untrained network by every criterion."""
    found = {}
    for name, criterion in every_criterion().items():
        sample = {"samples_per_class": None, "batches": 3, "batch_size": 15}
        pruning = Pruning(criterion, sparsity=0.5, network="network", **sample)
        fit(pruning, 0, norm=True, **options)
        assert pruning.outcome is not None
        found[name] = {f"mask {n}": mask.numpy() for n, mask in pruning.masks.items()}
        found[name] |= {n: score.numpy() for n, score in pruning.outcome.scores.items()}
    return found


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fully_shard", marks=pytest.mark.slow)])
def test_every_criterion_gives_two_ranks_the_scores_of_one(on_two_ranks, strategy: str) -> None:
    one, two = prune_by_each(), on_two_ranks(partial(prune_by_each, strategy=strategy, devices=2))
    assert len(one) >= 13
    for name, arrays in one.items():
        for key, array in arrays.items():
            np.testing.assert_allclose(two[name][key], array, rtol=1e-4, atol=1e-7, err_msg=f"{name} {key}")


@pytest.mark.parametrize("strategy", ["ddp", pytest.param("fully_shard", marks=pytest.mark.slow)])
def test_training_on_two_ranks_is_that_of_one(on_two_ranks, strategy: str) -> None:
    one, two = train_by_each(), on_two_ranks(partial(train_by_each, strategy=strategy, devices=2))
    for name, counted in one.items():
        assert counted["confusion"].sum() == two[name]["confusion"].sum() == 355
        for key, value in counted.items():
            np.testing.assert_allclose(two[name][key], value, rtol=1e-4, atol=1e-6, err_msg=f"{name} {key}")


class Own(pl.LightningModule):
    """A module that has never heard of prunelit, and splits itself where its strategy asks for it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(nn.Linear(12, 30), nn.ReLU(), nn.Linear(30, 30), nn.Linear(30, 4))

    def configure_model(self) -> None:
        if self.device_mesh is not None and not isinstance(self.layers, FSDPModule):
            for part in (self.layers[0], self.layers[2], self.layers):
                fully_shard(part, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return nn.functional.cross_entropy(self.layers(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), lr=0.01, weight_decay=0.1)


STRATEGIES: dict[str, Callable[[], Any]] = {
    "buckets": partial(DDPStrategy, gradient_as_bucket_view=True, bucket_cap_mb=0.001),
    "static": partial(DDPStrategy, static_graph=True),
    "split": partial(ModelParallelStrategy, data_parallel_size=2, tensor_parallel_size=1),
}


def fit_own(folder: Path, devices: int, gathered_batches: int, strategy: Callable[[], Any]) -> list[Any]:
    """Prune, train three epochs, and go on from the second; return masks and weights of both."""
    images = torch.randn(96, 12, generator=torch.Generator().manual_seed(5))
    dataset = TensorDataset(images, torch.arange(96) % 4)
    found = []
    for resume in (None, folder / "epoch=1.ckpt"):
        pruning = Pruning(prunelit.SynFlow(), sparsity=0.8, rounds=5)
        saving = pl.callbacks.ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
        options = {**ON_RANKS, "enable_checkpointing": True, "accumulate_grad_batches": gathered_batches}
        trainer = pl.Trainer(
            max_epochs=3,
            devices=devices,
            strategy=strategy(),
            callbacks=[pruning, Watch(pruning), saving],
            gradient_clip_val=0.5,
            **options,
        )
        module = Own()
        loader = DataLoader(dataset, 16 // devices, sampler=RoundRobin(96, trainer))
        trainer.fit(module, loader, ckpt_path=resume, weights_only=True)
        assert pruning.num_rounds == 5
        masks = [mask.tolist() for mask in pruning.masks.values()]
        found.append((masks, [whole(p.detach()).tolist() for p in module.parameters()]))
    return found


class RoundRobin(torch.utils.data.Sampler[int]):
    """The images in order, in turn by rank."""

    def __init__(self, size: int, trainer: pl.Trainer) -> None:
        self.size, self.trainer = size, trainer

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.trainer.global_rank, self.size, self.trainer.world_size))

    def __len__(self) -> int:
        return self.size // self.trainer.world_size


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_module_of_ones_own_is_pruned_and_resumed(name: str, on_two_ranks, tmp_path: Path) -> None:
    """With weight decay, gathered gradients (which do not go with a static graph) and clipped ones."""
    batches = 1 if name == "static" else 2
    ((masks, weights), _) = fit_own(tmp_path / "one", 1, batches, lambda: "auto")
    whole_run, resumed = on_two_ranks(partial(fit_own, tmp_path / "two", 2, batches, STRATEGIES[name]))
    assert whole_run == resumed
    assert whole_run[0] == masks
    for found, expected in zip(whole_run[1], weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def disagree() -> None:
    """Prune, and let rank 1 keep what rank 0 prunes."""
    pruning = Pruning(prunelit.Mag(), sparsity=0.5, network="network")
    agree = network_pruner.agreed

    def agreed(trainer: pl.Trainer, masks: Masks) -> Masks:
        sent = agree(trainer, masks)
        return {n: ~mask for n, mask in sent.items()} if trainer.global_rank else sent

    network_pruner.agreed = agreed
    fit(pruning, 1, strategy="ddp", devices=2)


def test_ranks_with_other_masks_end_with_an_error(on_two_ranks) -> None:
    with pytest.raises(RanksDisagree, match="masks differ from those of rank 0 on rank 1 of 2") as caught:
        on_two_ranks(disagree)
    assert "in rank" in str(caught.value.__cause__)
