"""``nn.MultiheadAttention`` loses heads, with all its arguments."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from prunelit import Mag, Objective, Plan, Selection, compact, load, prune, save


class Attends(nn.Module):
    def __init__(self, **options: object) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.attention, self.last = nn.MultiheadAttention(8, 4, **options), nn.Linear(8, 3)
        nn.init.normal_(self.attention.in_proj_bias)

    def forward(self, x: Tensor, **arguments: Tensor) -> Tensor:
        key = x[..., : self.attention.kdim]
        return self.last(x + self.attention(x, key, key, **arguments)[0])


def without_half(network: nn.Module, x: Tensor) -> nn.Module:
    choice = {"selection": Selection(granularity="unit"), "plan": Plan(scope="layer")}
    prune(network.eval(), Mag(), 0.5, objective=Objective(inputs=(x,)), **choice)
    return compact(network, x)


@pytest.mark.parametrize("options", [{"batch_first": True}, {"kdim": 6, "vdim": 6, "batch_first": True}, {}])
def test_half_of_the_heads_go(options: dict[str, object]) -> None:
    network = Attends(**options)
    small = without_half(network, torch.randn(2, 5, 8))
    assert (small.attention.num_heads, small.attention.out_proj.in_features) == (2, 4)
    x, causal = torch.randn(3, 5, 8), torch.ones(5, 5, dtype=torch.bool).triu(1)
    lengths = x.shape[:2] if options.get("batch_first") else x.shape[1::-1]
    padding = torch.zeros(lengths, dtype=torch.bool)
    padding[:, -1] = True
    for arguments in ({}, {"attn_mask": causal, "key_padding_mask": padding} if lengths[1] == 5 else {}):
        with torch.no_grad():
            torch.testing.assert_close(small(x, **arguments), network(x, **arguments), rtol=1e-4, atol=1e-5)


def test_layers_of_an_encoder_lose_heads_and_neurons_and_keep_their_width() -> None:
    layer = nn.TransformerEncoderLayer(8, 4, 16, batch_first=True, norm_first=True)
    network = nn.Sequential(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(8, 3))
    small = without_half(network, torch.randn(2, 5, 8))
    layers = small[0].layers
    assert [each.self_attn.in_proj_weight.shape for each in layers] == [(12, 8), (12, 8)]
    assert [each.linear1.weight.shape for each in layers] == [(8, 8), (8, 8)]
    x = torch.randn(3, 6, 8)
    with torch.no_grad():
        torch.testing.assert_close(small(x), network(x), rtol=1e-4, atol=1e-5)
    small.train()(x).sum().backward()


def test_attention_that_is_narrow_can_lose_heads_again() -> None:
    x = torch.randn(2, 5, 8)
    smaller = without_half(without_half(Attends(batch_first=True), x), x)
    assert smaller.attention.num_heads == 1


def test_narrow_attention_is_saved_and_loaded(tmp_path) -> None:
    arguments = {"d_model": 8, "nhead": 4, "dim_feedforward": 6, "batch_first": True}
    x = torch.randn(2, 5, 8)
    small = without_half(nn.TransformerEncoderLayer(**arguments), x)
    folder = save(small, tmp_path / "small", {"_target_": "torch.nn.TransformerEncoderLayer", **arguments})
    with torch.no_grad():
        torch.testing.assert_close(load(folder)(x), small(x))
