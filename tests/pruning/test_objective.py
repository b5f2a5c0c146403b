"""Batches, their loss, its gradients, and the temperature of the softmax in it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.objective import Objective, num_samples, split_batch, tempered
from prunelit.pruning.parameters import Selection

LOGITS = torch.tensor([[1.0, 2.0, -3.0], [0.5, 0.0, 4.0]], dtype=torch.float64)
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
    with tempered(temperature):
        value = LOSSES[name](LOGITS, LABELS)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(LOSSES[name](LOGITS, LABELS), F.cross_entropy(LOGITS, LABELS))


def test_tempered_keeps_weights_and_smoothing_of_the_loss() -> None:
    loss = nn.CrossEntropyLoss(weight=torch.tensor([1.0, 2.0, 3.0]).double(), label_smoothing=0.1)
    with tempered(3.0):
        value = loss(LOGITS, LABELS)
    torch.testing.assert_close(value, loss(LOGITS / 3, LABELS))


@pytest.mark.parametrize("loss", [F.mse_loss, F.binary_cross_entropy_with_logits])
def test_tempered_refuses_a_loss_without_a_softmax(loss: Callable[..., Tensor]) -> None:
    with pytest.raises(ValueError, match=r"temperature=200\.0 has nothing to divide"), tempered(200.0):
        loss(LOGITS, torch.zeros_like(LOGITS))
    with tempered(1):
        loss(LOGITS, torch.zeros_like(LOGITS))


def test_an_error_of_the_loss_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), tempered(200.0):
        raise ZeroDivisionError


def test_gradients_are_those_of_the_mean_over_all_samples() -> None:
    torch.manual_seed(0)
    network = nn.Linear(4, 3).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.randint(3, (7,))
    whole = Objective.of_classifier(network, [(x, y)])
    parts = Objective.of_classifier(network, [(x[:5], y[:5]), (x[5:], y[5:])])
    parameters = Selection(bias=True).of(network)
    F.cross_entropy(network(x), y).backward()
    for objective in (whole, parts):
        for name, gradient in objective.gradients(parameters).items():
            torch.testing.assert_close(gradient, parameters[name].grad)


def test_gradient_of_an_unused_parameter_is_zero() -> None:
    network = nn.ModuleDict({"used": nn.Linear(2, 2), "unused": nn.Linear(2, 2)})
    objective = Objective(lambda batch: network["used"](batch).sum(), [torch.ones(1, 2)], ())
    gradients = objective.gradients(Selection().of(network))
    assert torch.equal(gradients["used.weight"], torch.ones(2, 2))
    assert torch.equal(gradients["unused.weight"], torch.zeros(2, 2))


def test_batches_of_any_structure() -> None:
    batch = {
        "image": torch.arange(10).view(5, 2),
        "meta": [torch.tensor(3), "text"],
        "label": torch.arange(5),
    }
    assert num_samples(batch) == 5
    assert num_samples("text") == num_samples(torch.tensor(1.0)) == 1
    parts = split_batch(batch, 2)
    assert [part["label"].tolist() for part in parts] == [[0, 1], [2, 3, 4]]
    assert [part["image"].tolist() for part in parts] == [[[0, 1], [2, 3]], [[4, 5], [6, 7], [8, 9]]]
    assert parts[1]["meta"] == [torch.tensor(3), "text"]


@pytest.mark.parametrize(("size", "parts"), [(1, 1), (1, 3), (7, 3), (8, 2), (2, 5)])
def test_split_batches_are_even_whole_and_never_empty(size: int, parts: int) -> None:
    pieces = split_batch(torch.arange(size), parts)
    lengths = [len(piece) for piece in pieces]
    assert torch.cat(pieces).tolist() == list(range(size))
    assert len(pieces) == min(size, parts)
    assert max(lengths) - min(lengths) <= 1
