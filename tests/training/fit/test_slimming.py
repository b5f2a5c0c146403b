"""Network slimming: the L1 penalty on the scales of BatchNorm while a network trains up to its pruning."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import BNScale, Mag, Pruning

QUIET: dict[str, Any] = dict.fromkeys(
    ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False
)


class Module(pl.LightningModule):
    """Trains a small network by SGD; the scales are noted before and after each step."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2))
        with torch.no_grad():
            self.network[1].weight.copy_(torch.tensor([1.0, -1, 0.5, -0.5, 2, 0]))
        self.scales: list[Tensor] = []

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        self.scales.append(self.network[1].weight.detach().clone())
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


def fitted(slimming: float, **trainer: Any) -> Module:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(24, 4, generator=generator), torch.arange(24) % 2)
    pruning = Pruning(BNScale(), 0.3, when="end", granularity="unit", slimming=slimming)
    module = Module()
    pl.Trainer(callbacks=[pruning], max_epochs=1, accelerator="cpu", **QUIET, **trainer).fit(
        module, DataLoader(data, 8)
    )
    return module


@pytest.mark.parametrize(("accumulated", "first"), [(1, 1), (2, 2)])
def test_a_step_adds_the_sign_of_each_scale_once(accumulated: int, first: int) -> None:
    with_it, without = (
        fitted(penalty, accumulate_grad_batches=accumulated).scales[first] for penalty in (0.01, 0.0)
    )
    signs = torch.tensor([1.0, -1, 1, -1, 1, 0])
    torch.testing.assert_close(with_it, without - 0.5 * 0.01 * signs)


def test_the_penalty_ends_with_the_last_pruning() -> None:
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(torch.randn(8, 4, generator=generator), torch.arange(8) % 2)
    found = []
    for penalty in (0.0, 0.1):
        module = Module()
        pruning = Pruning(BNScale(), 0.3, granularity="unit", slimming=penalty)  # at the start
        pl.Trainer(callbacks=[pruning], max_epochs=2, accelerator="cpu", **QUIET).fit(
            module, DataLoader(data, 8)
        )
        found.append(module.network[1].weight.detach().clone())
    assert torch.equal(*found)


def test_a_network_without_batch_norm_gets_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    module = Module()
    module.network[1] = nn.LayerNorm(6)
    data = TensorDataset(torch.randn(8, 4), torch.arange(8) % 2)
    pruning = Pruning(Mag(), 0.3, when="end", slimming=0.1)
    pl.Trainer(callbacks=[pruning], max_epochs=1, accelerator="cpu", **QUIET).fit(module, DataLoader(data, 8))
    said = "warning: slimming=0.1 changes nothing: Module has no BatchNorm with a scale"
    assert said in capsys.readouterr().err.splitlines()
