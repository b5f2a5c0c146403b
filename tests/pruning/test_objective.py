"""Batches, their loss and its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from prunelit.pruning.objective import Objective, num_samples, split_batch
from prunelit.pruning.parameters import Selection


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
