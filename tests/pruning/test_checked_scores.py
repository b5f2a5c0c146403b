"""A network that has a loss in train mode alone is scored there, or refused with a hint."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.criteria import SNIP
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune

BATCH = (torch.randn(4, 3), torch.tensor([0, 1, 0, 1]))


class TrainOnly(nn.Module):
    """Returns losses in train mode and boxes in eval mode, as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(3, 2)

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Any]:
        scores = self.fc(x)
        return {"loss": F.cross_entropy(scores, y)} if self.training else {"boxes": scores.argmax(1)}


def test_the_hint_names_train_mode() -> None:
    network = TrainOnly().eval()
    objective = Objective(lambda batch: network(*batch)["loss"], [BATCH])
    hint = r"^TrainOnly has a loss in train mode.*KeyError.*train_mode=True"
    with pytest.raises(ValueError, match=hint) as caught:
        prune(network, SNIP(), 0.5, objective=objective)
    assert "\n" not in str(caught.value)
    assert not network.training
    prune(network, SNIP(), 0.5, plan=Plan(train_mode=True), objective=objective)


def test_an_error_in_both_modes_stays_what_it_is() -> None:
    network = TrainOnly()
    with pytest.raises(KeyError, match="other"):
        prune(network, SNIP(), 0.5, objective=Objective(lambda batch: network(*batch)["other"], [BATCH]))
