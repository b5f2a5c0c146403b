"""What stays whole says why."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from couplings import Residual, settled
from prunelit import explain


class Held(nn.Module):
    """Layers that stay whole, each for another reason, and one that does not."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.sorted, self.normed = nn.Conv2d(1, 4, 3), nn.Linear(16, 6), nn.Linear(6, 6)
        self.norm, self.free, self.last = nn.LayerNorm(6), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = self.sorted(F.relu(self.written(x)).flatten(1).expand(-1, 16))
        x = self.norm(self.normed(torch.cummax(x, 1)[0]))
        return self.last(self.free(x).relu())


def test_groups_and_reasons() -> None:
    lines = [line.strip() for line in explain(Held(), torch.randn(2, 1, 4, 4)).splitlines()]
    assert lines[:2] == [
        "1 groups of units can be pruned:",
        "free.weight: 5 units of free; inputs of last",
    ]
    said = "\n".join(lines[2:])
    assert "normed.weight: 6 units of normed, norm" in said
    assert "takes part in the mean and variance of all (layer_norm in norm)" in said
    assert "written: without some of its units the network fails: " in said
    assert "sorted: this operation is not followed (cummax)" in said
    assert "last: the network returns it" in said
    assert said.endswith("Operations that are not followed: cummax")


def test_a_residual_sum_is_one_group() -> None:
    text = explain(settled(Residual), torch.randn(2, 3, 8, 8))
    assert "stem.weight: 8 units of stem, norm, depthwise, conv; inputs of conv, fc" in text
