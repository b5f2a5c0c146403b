"""SynFlow's inputs of ones: signals become ones; masks, settings and token ids stay what they are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.linearize import signal_inputs
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection


class Noting(nn.Module):
    """Keeps what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: Tensor, other: Any = None, *, mask: Any = None, **more: Any) -> Tensor:
        self.seen = {"x": x, "other": other, "mask": mask} | more
        return self.fc(x)


MINUS = torch.tensor([[0.0, -torch.inf, 0.0]])
INPUTS: dict[str, tuple[Tensor, bool]] = {
    "signal": (torch.tensor([[0.3, 2.0, -1.0]]), True),
    "half": (torch.tensor([[0.3, 2.0, -1.0]]).half(), True),
    "bool": (torch.tensor([[True, False]]), False),
    "tokens": (torch.tensor([[3, 1, 2]]), False),
    "minus infinity": (MINUS, False),
    "least number": (MINUS.clamp_min(torch.finfo(torch.float32).min), False),
    "zeros and ones": (torch.tensor([[0.0, 1.0, 1.0]]), False),
    "zeros": (torch.zeros(1, 3), False),
    "one number": (torch.tensor(0.5), False),
}


@pytest.mark.parametrize("name", INPUTS)
@pytest.mark.parametrize("keyword", ["other", "nested", "extra"])
def test_only_signals_become_ones(name: str, keyword: str) -> None:
    tensor, signal = INPUTS[name]
    keywords: dict[str, Any] = {"other": [tensor]} if keyword == "nested" else {keyword: tensor}
    network = Noting()
    objective = Objective(inputs=(torch.rand(1, 4),), keywords=keywords)
    SynFlow().scores(network, Selection().of(network), objective)
    (seen,) = network.seen["other"] if keyword == "nested" else (network.seen[keyword],)
    assert torch.equal(seen, torch.ones_like(seen) if signal else tensor.to(seen.dtype))
    assert seen.dtype == (torch.float64 if tensor.is_floating_point() else tensor.dtype)


def test_what_is_called_a_mask_stays() -> None:
    network = Noting()
    assert signal_inputs(network, Call((torch.rand(1, 4),), {"mask": torch.rand(1, 4)})) == [True, False]
    assert signal_inputs(network, Call((torch.rand(1, 4),), {"a": {"pad_mask": torch.rand(2)}})) == [
        True,
        False,
    ]


def test_inputs_of_zeros_alone_are_signals() -> None:
    assert signal_inputs(Noting(), Call((torch.zeros(1, 4), torch.zeros(1, 3)))) == [True, True]


def test_keyword_only_arguments_are_enough() -> None:
    class KeywordOnly(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(2, 2)

        def forward(self, *, pixels: Tensor) -> Tensor:
            return self.fc(pixels)

    network = KeywordOnly()
    scores = SynFlow().scores(
        network, Selection().of(network), Objective(keywords={"pixels": torch.rand(3, 2)})
    )
    torch.testing.assert_close(scores["fc.weight"], network.fc.weight.abs().double())
