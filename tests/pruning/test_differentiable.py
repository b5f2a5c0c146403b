"""Second derivatives of networks with fused attention, reentrant checkpoints and compiled parts."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SNIP, Criterion, Fisher, GraSP, Hessian, SynFlow
from prunelit.pruning.differentiable import differentiable
from prunelit.pruning.objective import Objective
from prunelit.pruning.rounds import prune


class Attending(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layer(self.embed(x))
        return self.head(F.scaled_dot_product_attention(x, x, x).mean(1))


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool = True) -> None:
        super().__init__()
        self.embed, self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x).relu().mean(1)
        if self.reentrant:
            h = torch.utils.checkpoint.checkpoint(self.body, h, use_reentrant=True)
        else:
            h = self.body(h)
        return self.head(h.relu())


BATCH = (torch.randn(4, 5, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 1]))


@pytest.mark.parametrize(
    "criterion",
    [SNIP(), GraSP(), Fisher(), Hessian(), Hessian(3), SynFlow()],
    ids=lambda criterion: type(criterion).__name__,
)
def test_attention_of_every_kind_is_scored(criterion: Criterion) -> None:
    torch.manual_seed(0)
    network = Attending()
    outcome = prune(network, criterion, 0.5, objective=Objective.of_classifier(network, [BATCH]))
    assert all(score.any() for score in outcome.scores.values())


@pytest.mark.parametrize(
    "criterion", [SNIP(), GraSP(), Hessian(), SynFlow()], ids=lambda criterion: type(criterion).__name__
)
def test_reentrant_checkpoints_change_no_score(criterion: Criterion) -> None:
    found = []
    for reentrant in (True, False):
        torch.manual_seed(0)
        network = Checkpointed(reentrant)
        objective = Objective.of_classifier(network, [BATCH])
        found.append(prune(network, criterion, 0.5, objective=objective).scores)
    for name in found[0]:
        torch.testing.assert_close(found[0][name], found[1][name])


class Own(nn.Linear):
    """A layer with code of its own: torch 2.11 does not compile a layer of torch alone."""

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


def test_a_compiled_part_runs_uncompiled() -> None:
    calls = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., object]:
        calls.append(graph)
        return graph.forward

    torch.manual_seed(0)
    network = nn.Sequential(Own(4, 6), nn.ReLU(), nn.Linear(6, 3))
    plain = copy.deepcopy(network)
    network[0].compile(backend=backend)
    batch = (torch.randn(4, 4), BATCH[1])
    masks = [
        prune(net, GraSP(), 0.5, objective=Objective.of_classifier(net, [batch])).masks
        for net in (network, plain)
    ]
    assert all(torch.equal(masks[0][name], masks[1][name]) for name in masks[1])
    assert not calls
    network(batch[0])
    assert calls


def test_everything_is_as_before_after_an_error() -> None:
    function = torch.utils.checkpoint.CheckpointFunction
    with pytest.raises(ZeroDivisionError), differentiable():
        raise ZeroDivisionError
    assert torch.utils.checkpoint.CheckpointFunction is function
    assert torch.backends.mha.get_fastpath_enabled()
