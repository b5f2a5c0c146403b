"""SynFlow in a Trainer: the network is called with the arguments that the training step gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from prunelit import Objective, Pruning, SynFlow, prune
from stock import trainer


class Masked(nn.Module):
    """A transformer that is called with a mask as long as the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(8, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.head(self.layer(self.embed(x), src_mask=mask).mean(1))


class Scaled(nn.Module):
    """A default between the arguments that are given, and arguments passed on as they come."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 10)

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.called(*args, **kwargs)

    def called(self, x: Tensor, offset: Tensor | None = None, scale: Any = 1) -> Tensor:
        return self.fc(x.mean(1) * scale)


class KeywordOnly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(8, 10)

    def forward(self, *, values: Tensor) -> Any:
        return {"logits": self.fc(values.mean(1)).softmax(1), "note": None}


CALLS: dict[str, tuple[type[nn.Module], Callable[[nn.Module, Tensor], Any]]] = {
    "mask": (Masked, lambda net, x: net(x, torch.zeros(8, 8))),
    "default between": (Scaled, lambda net, x: net(x, scale=torch.tensor(2.0))),
    "keyword only": (KeywordOnly, lambda net, x: net(values=x)["logits"]),
}


class Module(pl.LightningModule):
    def __init__(self, net: nn.Module, call: Callable[[nn.Module, Tensor], Any]) -> None:
        super().__init__()
        self.net, self.call = net, call

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return F.cross_entropy(self.call(self.net, batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("name", CALLS)
def test_arguments_of_any_kind(name: str) -> None:
    kind, call = CALLS[name]
    torch.manual_seed(0)
    module, pruning = Module(kind(), call), Pruning(SynFlow(), sparsity=0.5, rounds=3, network="net")
    x, y = torch.randn(8, 8, 8), torch.randint(10, (8,))
    expected: dict[str, Objective] = {
        "mask": Objective(inputs=(x, torch.zeros(8, 8))),
        "default between": Objective(inputs=(x,), keywords={"scale": torch.tensor(2.0)}),
        "keyword only": Objective(keywords={"values": x}),
    }
    right = prune(kind_like(module.net), SynFlow(), 0.5, plan=pruning.plan, objective=expected[name]).masks
    trainer(pruning, max_epochs=0).fit(module, DataLoader(TensorDataset(x, y), batch_size=8))
    for key, mask in pruning.masks.items():
        assert torch.equal(mask, right[key]), key


def kind_like(network: nn.Module) -> nn.Module:
    twin = type(network)()
    twin.load_state_dict(network.state_dict())
    return twin
