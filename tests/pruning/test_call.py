"""The call of a network: any arguments, and the same call on one sample."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_sequence

from prunelit.pruning.call import Call, num_samples
from prunelit.pruning.flops import count_flops
from prunelit.pruning.objective import Objective
from prunelit.pruning.paths import effective_density


class Attending(nn.Module):
    """Self-attention over 8 tokens, with an additive mask of 8 x 8."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor, mask: Tensor | None = None, *, scale: Tensor, note: str = "") -> Tensor:
        scores = self.query(x) @ self.key(x).transpose(1, 2) * scale
        return (scores if mask is None else scores + mask).softmax(2) @ x


def causal() -> Tensor:
    return torch.full((8, 8), -torch.inf).triu(1)


def test_a_mask_as_long_as_the_batch_is_not_taken_for_samples() -> None:
    torch.manual_seed(0)
    scale = torch.tensor(2.0)
    call = Call((torch.randn(8, 8, 4), causal()), {"scale": scale, "note": "text"})
    cut = call.one_sample(Attending())
    assert torch.equal(cut.inputs[0], call.inputs[0][:1])
    assert torch.equal(cut.inputs[1], causal())
    assert cut.keywords == {"scale": scale, "note": "text"}


def test_samples_that_do_not_stand_alone_are_not_cut() -> None:
    class Mixing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x - x.mean(0)

    call = Call((torch.randn(4, 3),))
    assert call.one_sample(Mixing()).inputs[0].shape == (4, 3)


@dataclass(frozen=True)
class Inputs:
    ids: Tensor
    text: str = ""


class Ordered(OrderedDict[str, Any]):
    """An output or input as Hugging Face's: items are attributes too."""


def test_containers_of_any_kind_are_cut_to_one_sample() -> None:
    class Sum(nn.Module):
        def forward(self, first: Inputs, second: Ordered, third: list[Tensor]) -> Tensor:
            return first.ids + second["x"] + third[0]

    call = Call((Inputs(torch.rand(4, 2), "text"), Ordered(x=torch.rand(4, 2)), [torch.rand(4, 2)]))
    first, second, third = call.one_sample(Sum()).inputs
    assert (first.ids.shape, first.text, second["x"].shape, third[0].shape) == (
        (1, 2),
        "text",
        (1, 2),
        (1, 2),
    )
    assert (type(first), type(second)) == (Inputs, Ordered)
    assert call.inputs[0].ids.shape == call.inputs[1]["x"].shape == (4, 2)


def test_a_packed_sequence_is_cut_to_its_first_sequence() -> None:
    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(3, 5)

        def forward(self, packed: Any) -> Tensor:
            return self.lstm(packed)[1][0][0]

    sequences = [torch.rand(length, 3) for length in (2, 5, 4)]
    call = Call((pack_sequence(sequences, enforce_sorted=False),))
    assert num_samples(call.inputs) == 3
    (first,) = call.one_sample(Recurrent()).inputs
    assert torch.equal(first.data, sequences[0])


def test_a_network_that_takes_a_list_of_images_keeps_them_whole() -> None:
    class Images(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 3)

        def forward(self, images: list[Tensor]) -> Tensor:
            return torch.stack([self.conv(image).mean((1, 2)) for image in images])

    call = Call(([torch.rand(3, 5, 5), torch.rand(3, 6, 6)],))
    assert [image.shape[0] for image in call.one_sample(Images()).inputs[0]] == [3, 3]


@pytest.mark.parametrize("training", [True, False])
def test_cutting_leaves_the_modes_of_the_network(training: bool) -> None:
    network = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).train(training)
    network[1].train(not training)
    Call((torch.rand(4, 2),)).one_sample(network)
    assert [module.training for module in network.modules()] == [training, training, not training]


def test_forward_shows_activations_to_hooks_even_in_eval_mode_without_gradients() -> None:
    network = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    seen = []
    network.linear2.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
    objective = Objective(lambda x: network(x).mean(), [torch.rand(2, 3, 8)])
    with torch.no_grad():
        objective.forward(objective.batches[0])
    assert seen == [(2, 3, 16)]


def test_flops_and_paths_of_a_call_with_keyword_arguments() -> None:
    class Outputs(OrderedDict[str, Any]):
        pass

    class Keywords(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 3)

        def forward(self, *, pixels: Tensor, scale: float) -> Outputs:
            return Outputs(logits=self.fc(pixels * scale))

    network = Keywords()
    call = Call(keywords={"pixels": torch.rand(1, 4), "scale": 2.0})
    assert count_flops(network, call).total == 12
    mask = torch.eye(3, 4).bool()
    assert effective_density(network, {"fc.weight": mask}, call) == 3 / 12
