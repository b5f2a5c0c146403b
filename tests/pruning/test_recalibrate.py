"""Statistics of BatchNorm are those of the batches given, and nothing else changes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from prunelit.pruning.recalibrate import recalibrate


def network_of(momentum: float | None = 0.1) -> nn.Sequential:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Linear(3, 4), nn.Dropout(), nn.BatchNorm1d(4, momentum=momentum), nn.Linear(4, 2)
    )
    network(torch.randn(8, 3) * 5 + 2)
    return network


def batches(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, 3, generator=generator) for size in sizes]


def test_statistics_are_the_means_over_all_batches() -> None:
    network, given = network_of(), batches(6, 9)
    recalibrate(network, network, given)
    norm = network[2]
    inputs = [network[0](batch) for batch in given]
    torch.testing.assert_close(norm.running_mean, torch.stack([x.mean(0) for x in inputs]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([x.var(0) for x in inputs]).mean(0))


def test_all_else_is_as_before() -> None:
    network = network_of()
    before = {name: p.clone() for name, p in network.named_parameters()}
    network[3].eval()
    modes = [module.training for module in network.modules()]
    recalibrate(network, network, batches(5))
    assert all(torch.equal(p, before[name]) for name, p in network.named_parameters())
    assert [module.training for module in network.modules()] == modes
    assert network[2].momentum == 0.1


def test_a_batch_of_one_sample_is_left_out() -> None:
    network, other = network_of(), network_of()
    first, lone = batches(5, 1)
    recalibrate(network, network, [first, lone])
    recalibrate(other, other, [first])
    assert torch.equal(network[2].running_var, other[2].running_var)
    before = network[2].running_mean.clone()
    recalibrate(network, network, [lone])
    assert torch.equal(network[2].running_mean, before)
