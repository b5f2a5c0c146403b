"""Two ranks make their networks smaller in the same way, and train on as one process does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.powerSGD_hook import PowerSGDState
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import BadRequest, Mag, Pruning
from prunelit.pruning.masks import attached
from prunelit.training.cutting import cut_while_training
from stock import QUIET

BATCH, STEPS = 16, 3
ON_RANKS: dict[str, Any] = {**QUIET, "use_distributed_sampler": False}


class Shortcut(nn.Module):
    """Convolutions with a shortcut; BatchNorm, which each rank computes from its own images, if asked."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8) if norm else nn.Identity()
        self.first = nn.Conv2d(8, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.stem(x)).relu()
        x = x + self.second(self.first(x).relu())
        return self.head(x.mean((2, 3)))


class Trained(pl.LightningModule):
    """Checks after each step that all ranks hold the same weights in the same shapes."""

    def __init__(self, norm: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = Shortcut(norm)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_batch_end(self, *_: Any) -> None:
        if self.trainer.world_size > 1:
            held = [weights.tolist() for weights in self.net.parameters()]
            rows: list[Any] = [None] * self.trainer.world_size
            torch.distributed.all_gather_object(rows, held)
            assert rows == rows[:1] * self.trainer.world_size

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01, weight_decay=0.01)


class InTurn(torch.utils.data.Sampler[int]):
    """Images in order, of which each rank takes every second."""

    def __init__(self, trainer: pl.Trainer) -> None:
        self.trainer = trainer

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.trainer.global_rank, BATCH * STEPS, self.trainer.world_size))

    def __len__(self) -> int:
        return BATCH * STEPS // self.trainer.world_size


def loader(trainer: pl.Trainer) -> DataLoader[Any]:
    """The same images in each step, whatever the number of ranks that share them."""
    images = torch.randn(BATCH * STEPS, 3, 6, 6, generator=torch.Generator().manual_seed(5))
    dataset = TensorDataset(images, torch.arange(BATCH * STEPS) % 10)
    return DataLoader(dataset, BATCH // trainer.num_devices, sampler=InTurn(trainer))


def fit(
    strategy: Callable[[], Any] = lambda: "auto",
    devices: int = 1,
    epochs: int = 4,
    resume: Path | None = None,
    norm: bool = False,
    cut: bool = True,
    precision: Any = "64-true",
) -> tuple[pl.Trainer, Pruning]:
    """Prune half of the units at the start of the second and of the third epoch."""
    options = {"when": "epoch", "rounds": 2, "pre_epochs": 1, "network": "net"}
    pruning = Pruning(Mag(), sparsity=0.5, granularity="unit", cut=cut, **options)  # type: ignore[arg-type]
    where = {"devices": devices, "strategy": strategy(), "precision": precision}
    trainer = pl.Trainer(max_epochs=epochs, callbacks=pruning, **where, **ON_RANKS)
    trainer.fit(Trained(norm), loader(trainer), ckpt_path=resume, weights_only=True)
    return trainer, pruning


def fitted(**options: Any) -> dict[str, Any]:
    """Return the network of a fit, the states of its optimizer, the masks, and the parameters when whole."""
    trainer, pruning = fit(**options)
    net = trainer.lightning_module.net
    found = {name: value.clone() for name, value in net.state_dict().items()}
    for name, parameter in net.named_parameters():
        for key, moment in trainer.optimizers[0].state[parameter].items():
            assert key == "step" or moment.shape == parameter.shape
            found[f"{name} {key}"] = moment
    with pruning.cut.whole(net):
        found |= {f"whole {name}": value.detach().clone() for name, value in net.named_parameters()}
    found |= {f"mask {name}": mask for name, mask in pruning.masks.items()}
    return {name: value.numpy() for name, value in found.items()}


def same(found: dict[str, Any], expected: dict[str, Any], relative: float = 1e-9) -> bool:
    assert found.keys() == expected.keys()
    assert {n: v.shape for n, v in found.items()} == {n: v.shape for n, v in expected.items()}
    return all(found[n] == pytest.approx(value, rel=relative, abs=1e-12) for n, value in expected.items())


STRATEGIES: dict[str, Callable[[], Any]] = {
    "buckets": partial(DDPStrategy, gradient_as_bucket_view=True, bucket_cap_mb=0.001),
    "static": partial(DDPStrategy, static_graph=True),
    "unused": partial(DDPStrategy, find_unused_parameters=True),
}
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("static", "unused")]


@pytest.mark.parametrize("name", ["buckets", *SLOW])
def test_two_ranks_train_the_smaller_network_of_one_process(name: str, on_two_ranks) -> None:
    one, two = fitted(), on_two_ranks(partial(fitted, strategy=STRATEGIES[name], devices=2))
    assert 0 < len(one["first.weight"]) < 12
    assert same(two, one)


@pytest.mark.slow
def test_the_smaller_network_of_two_ranks_is_their_masked_one(on_two_ranks) -> None:
    """With BatchNorm, whose statistics are those of a rank's own images."""
    masked, cut = (
        on_two_ranks(partial(fitted, strategy=DDPStrategy, devices=2, norm=True, cut=choice))
        for choice in (False, True)
    )
    assert len(cut["norm.running_mean"]) < len(masked["norm.running_mean"]) == 8
    chosen = [name for name in cut if name.startswith(("whole", "mask"))]
    assert same({name: cut[name] for name in chosen}, {name: masked[name] for name in chosen}, 1e-6)


def resume(folder: Path) -> list[dict[str, Any]]:
    """Save after each number of epochs, and go on from there; the first result is of an unbroken fit."""
    # Lightning reads the weights of a checkpoint before it makes the module one of float64.
    options: dict[str, Any] = {"strategy": DDPStrategy, "devices": 2, "precision": "32-true"}
    found = [fitted(**options)]
    for epochs in (2, 3):  # between both prunings, and after the second
        fit(**options, epochs=epochs)[0].save_checkpoint(folder / f"{epochs}.ckpt")
        found.append(fitted(**options, resume=folder / f"{epochs}.ckpt"))
    return found


def test_two_ranks_resume_bit_for_bit(on_two_ranks, tmp_path: Path) -> None:
    straight, *resumed = on_two_ranks(partial(resume, tmp_path))
    for again in resumed:
        assert same(again, straight, 0.0)


def fit_with_one_opinion() -> dict[str, Any]:
    """Fail if any rank but 0 looks for what can be cut: another one may find something else."""
    possible = cut_while_training._possible

    def on_rank_0(*arguments: Any) -> Any:
        assert torch.distributed.get_rank() == 0
        return possible(*arguments)

    cut_while_training._possible = on_rank_0
    return fitted(strategy=DDPStrategy, devices=2)


def test_rank_0_decides_what_is_cut(on_two_ranks) -> None:
    assert same(on_two_ranks(fit_with_one_opinion), fitted())


def test_worker_processes_leave_the_smaller_network_in_this_one() -> None:
    """Its weights, which Lightning loads here, do not fit the network that the workers began with."""
    trainer, pruning = fit(lambda: "ddp_fork", devices=2, epochs=3)
    net = trainer.lightning_module.net
    assert net.first.out_channels == len(net.second.weight[0]) < 12
    shapes = {name: parameter.shape for name, parameter in net.named_parameters()}
    assert {name: mask.shape for name, mask in (attached(net) or {}).items()} == shapes
    again = pl.Trainer(max_epochs=1, callbacks=pruning, **ON_RANKS)
    again.fit(trainer.lightning_module, loader(again))
    assert pruning.num_done == 2
    assert {name: parameter.shape for name, parameter in net.named_parameters()} == shapes


def test_gradients_compressed_by_powersgd_are_refused() -> None:
    state = PowerSGDState(process_group=None)
    with pytest.raises(BadRequest, match="PowerSGD"):
        cut_while_training.CutNetwork.check_fit(
            pl.Trainer(strategy=DDPStrategy(ddp_comm_state=state), devices=1, **ON_RANKS)
        )
