"""Units without effect are found by their values, whatever they are multiplied by."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunelit import compact
from prunelit.pruning.call import Call
from prunelit.pruning.coupling.groups import found_groups
from prunelit.pruning.coupling.removable import units_with_effect

IMAGES = torch.rand(2, 3, 8, 8)


class Positions(nn.Module):
    """Adds to its channels what a small network makes of a table of coordinates, as Swin v2 does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 6, 3, padding=1), nn.Linear(6, 4)
        axes = torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-2, 1, 8), indexing="ij")
        self.register_buffer("table", torch.stack(axes, 2))
        self.bias = nn.Sequential(nn.Linear(2, 10), nn.ReLU(), nn.Linear(10, 6, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x) + self.bias(self.table).permute(2, 0, 1)
        return self.head(x.relu().mean((2, 3)))


def positions() -> Positions:
    torch.manual_seed(0)
    return Positions().eval()


def test_nothing_is_without_effect_before_pruning() -> None:
    network = positions()
    assert units_with_effect(network, found_groups(network, Call.of(IMAGES))) == {}


@pytest.mark.parametrize("removed", [0, 1])
def test_the_column_of_a_table_that_is_multiplied_by_zeros_goes_and_the_other_stays(removed: int) -> None:
    network = positions()
    network.bias[0].weight.data[:, removed] = 0
    found = units_with_effect(network, found_groups(network, Call.of(IMAGES)))
    assert [mask.tolist() for mask in found.values()] == [[removed != 0, removed != 1]]
    small = compact(network, IMAGES)
    assert torch.equal(small.table[..., 0], network.table[..., 1 - removed])
    assert small.bias[0].weight.shape == (10, 1)
    torch.testing.assert_close(small(IMAGES), network(IMAGES))
