"""FLOPs of matrix products, attention and layer scale, by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.pruning.flops import count_flops


class Computing(nn.Module):
    """Computes ``formula`` of its inputs."""

    def __init__(self, formula: Callable[..., Tensor]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, *tensors: Tensor) -> Tensor:
        return self.formula(*tensors)


@pytest.mark.parametrize(
    ("formula", "shapes", "count"),
    [
        (lambda a, b: a @ b, [(1, 2, 3, 4), (1, 2, 4, 5)], 2 * 3 * 5 * 4),
        (lambda a, b: a[0, 0] @ b, [(1, 1, 3, 4), (1, 2, 4, 5)], 2 * 3 * 5 * 4),
        (lambda a, b: a @ b[0], [(1, 3, 4), (1, 4)], 3 * 4),
        (lambda a, b: torch.mv(a[0], b[0]), [(1, 3, 4), (1, 4)], 3 * 4),
        (lambda a, b: torch.dot(a[0], b[0]), [(1, 4), (1, 4)], 4),
        (torch.bmm, [(1, 3, 4), (1, 4, 5)], 3 * 5 * 4),
        (torch.baddbmm, [(1, 3, 5), (1, 3, 4), (1, 4, 5)], 3 * 5 * 4),
        (lambda a, b: torch.einsum("bhid,bhjd->bhij", a, b), [(1, 2, 3, 4), (1, 2, 5, 4)], 2 * 3 * 5 * 4),
        (lambda a, b: torch.einsum("b...d,bde->b...e", a, b), [(1, 3, 7, 4), (1, 4, 5)], 3 * 7 * 5 * 4),
        (lambda a, b: torch.einsum("bij,bjk", a, b), [(1, 2, 3), (1, 3, 4)], 2 * 4 * 3),
        (lambda a, b: torch.einsum("bij,bjk->bik", a, b), [(1, 211, 307), (1, 307, 101)], 211 * 101 * 307),
        (
            lambda a, b, c: torch.einsum("bij,bjk,bkl->bil", a, b, c),
            [(1, 2, 3), (1, 3, 4), (1, 4, 5)],
            2 * 4 * 3 + 2 * 5 * 4,
        ),
        (lambda a: torch.einsum("bij->bji", a), [(1, 2, 3)], 0),
    ],
)
def test_products(formula: Callable[..., Tensor], shapes: list[tuple[int, ...]], count: int) -> None:
    flops = count_flops(Computing(formula), tuple(torch.zeros(shape) for shape in shapes))
    assert flops.total == count
    assert flops.uncounted == ()


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


def test_fused_attention_counts_as_the_one_written_by_hand() -> None:
    """Two heads, 3 queries of 4 numbers, 5 keys, values of 6 numbers."""
    tensors = torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 4), torch.zeros(1, 2, 5, 6)
    written, fused = (count_flops(Computing(f), tensors) for f in (by_hand, F.scaled_dot_product_attention))
    assert written.total == fused.total == 2 * 3 * 5 * 4 + 2 * 3 * 5 * 6
    assert fused.uncounted == ()


def test_heads_that_share_keys_count_each() -> None:
    tensors = torch.zeros(1, 4, 3, 2), torch.zeros(1, 2, 5, 2), torch.zeros(1, 2, 5, 6)
    grouped = Computing(lambda q, k, v: F.scaled_dot_product_attention(q, k, v, enable_gqa=True))
    assert count_flops(grouped, tensors).total == 4 * 3 * 5 * (2 + 6)


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of two heads and a width of 4."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__()
        self.attention, self.arguments = nn.MultiheadAttention(4, 2, batch_first=True), arguments

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, **self.arguments)[0]


@pytest.mark.parametrize(
    "arguments",
    [{"need_weights": False}, {"need_weights": True}, {"attn_mask": torch.zeros(3, 3)}],
    ids=["fused", "with weights", "masked"],
)
def test_multihead_attention(arguments: dict[str, Any]) -> None:
    """3 tokens; whichever operations it uses, its products of activations count the same."""
    flops = count_flops(SelfAttention(**arguments), torch.zeros(1, 3, 4))
    inputs, outputs, products = 3 * 4 * 12, 3 * 4 * 4, 2 * (2 * 3 * 3 * 2)
    assert flops.by_parameter == {
        "attention.in_proj_weight": inputs,
        "attention.out_proj.weight": outputs,
    }
    assert flops.total == inputs + outputs + products
    assert flops.uncounted == ()


class LayerScale(nn.Module):
    """A linear layer whose outputs are multiplied by a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.scale = nn.Linear(4, 6), nn.Parameter(torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) * self.scale


def test_layer_scale_counts_nothing() -> None:
    """It multiplies single elements, like an activation; the layer before it counts as without it."""
    flops = count_flops(LayerScale(), torch.zeros(1, 3, 4))
    assert flops.total == 3 * 4 * 6
    assert flops.by_parameter == {"linear.weight": 3 * 4 * 6}
    assert flops.uncounted == ()


def test_a_vision_transformer_as_published() -> None:
    """torchvision states 4.409e9, without the normalisation of 25 layers of 50 x 768 elements."""
    models = pytest.importorskip("torchvision").models
    published = models.ViT_B_32_Weights.IMAGENET1K_V1.meta["_ops"] * 1e9
    with torch.device("meta"):
        network = models.vit_b_32()
    flops = count_flops(network.to_empty(device="cpu"), torch.zeros(1, 3, 224, 224))
    assert flops.total - 25 * 5 * 50 * 768 == pytest.approx(published, abs=1e6)
    assert flops.uncounted == ()
