"""The temperature divides the logits that a loss is computed from, and nothing else."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.logits import tempered
from prunelit.request import BadRequest

LOGITS = torch.tensor([[1.0, 2.0, -3.0], [0.5, 0.0, 4.0]], dtype=torch.float64, requires_grad=True)
LABELS = torch.tensor([0, 2])


class LogSoftmax(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log_softmax(1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "function": F.cross_entropy,
    "keywords": lambda z, y: F.cross_entropy(target=y, input=z),
    "module": nn.CrossEntropyLoss(),
    "nll": lambda z, y: F.nll_loss(F.log_softmax(z, dim=1), y),
    "nll module": lambda z, y: nn.NLLLoss()(nn.LogSoftmax(1)(z), y),
    "nll method": lambda z, y: F.nll_loss(LogSoftmax()(z), y),
    "log of softmax": lambda z, y: F.nll_loss(torch.softmax(z, 1).log(), y),
    "log of softmax method": lambda z, y: F.nll_loss(z.softmax(1).log(), y),
    "torch": lambda z, y: F.nll_loss(torch.log_softmax(z, 1), y),
    "special": lambda z, y: F.nll_loss(torch.special.log_softmax(z, 1), y),
    "nn.Softmax": lambda z, y: F.nll_loss(nn.Softmax(1)(z).log(), y),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("temperature", [1, 5.0, 200.0])
def test_tempered_divides_the_logits(name: str, temperature: float) -> None:
    expected = F.cross_entropy(LOGITS / temperature, LABELS)
    value = tempered(lambda batch: LOSSES[name](*batch), (LOGITS, LABELS), temperature)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(LOSSES[name](LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))


def test_tempered_keeps_weights_and_smoothing_of_the_loss() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double(), label_smoothing=0.1)
    value = tempered(lambda batch: loss(*batch), (LOGITS, LABELS), 3.0)
    torch.testing.assert_close(value, loss(LOGITS / 3, LABELS))


@pytest.mark.parametrize("loss", [F.mse_loss, F.binary_cross_entropy_with_logits])
def test_tempered_refuses_a_loss_without_a_softmax(loss: Callable[..., Tensor]) -> None:
    batch = (LOGITS, torch.zeros_like(LOGITS))
    with pytest.raises(BadRequest, match=r"^temperature=200\.0: .*temperature=1"):
        tempered(lambda each: loss(*each), batch, 200.0)
    torch.testing.assert_close(tempered(lambda each: loss(*each), batch, 1), loss(*batch))


class Attending(nn.Module):
    """Attention by hand, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.head = nn.Linear(4, 4, bias=False), nn.Linear(4, 3)

    def forward(self, x: Tensor, temperature: float = 1) -> Tensor:
        weights = (self.query(x) @ x.transpose(1, 2)).softmax(2)
        return self.head((weights @ x).mean(1)) / temperature


def test_an_attention_within_the_network_is_not_divided() -> None:
    network, x = Attending().double(), torch.randn(2, 5, 4).double()
    value = tempered(lambda batch: F.cross_entropy(network(batch), LABELS), x, 5.0)
    torch.testing.assert_close(value, F.cross_entropy(network(x, 5), LABELS))
    with pytest.raises(BadRequest, match=r"^temperature=5\.0: "):
        tempered(lambda batch: network(batch).square().mean(), x, 5.0)


def test_a_teacher_that_needs_no_gradient_keeps_its_probabilities() -> None:
    teacher = torch.tensor([[3.0, 0.0, 1.0], [0.0, 1.0, 0.0]]).double()

    def loss(batch: Tensor) -> Tensor:
        return F.kl_div(batch.log_softmax(1), teacher.softmax(1), reduction="batchmean")

    torch.testing.assert_close(tempered(loss, LOGITS, 4.0), loss(LOGITS / 4))
