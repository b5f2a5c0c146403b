"""Small networks with attention, written in ways that people write it by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EinsumAttention(nn.Module):
    """Attention written with einsum and bare parameters, queries, keys and values apart."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, width = 4, 12
        self.embed = nn.Conv2d(3, width, 2, stride=2)
        self.position = nn.Parameter(torch.randn(1, 9, width))
        self.to_q, self.to_k = nn.Linear(width, 16), nn.Linear(width, 16)
        self.to_v = nn.Linear(width, 24)
        self.mix, self.gamma = nn.Linear(24, width), nn.Parameter(torch.rand(width))
        self.mlp_in, self.mlp_out = nn.Linear(width, 20), nn.Linear(20, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.position
        b, n, _ = x.shape
        q = self.to_q(x).view(b, n, self.heads, 4)
        k = self.to_k(x).view(b, n, self.heads, 4)
        v = self.to_v(x).view(b, n, self.heads, 6)
        weights = torch.einsum("bihd,bjhd->bhij", q, k).mul(0.5).softmax(dim=-1)
        found = torch.einsum("bhij,bjhd->bihd", weights, v).reshape(b, n, -1)
        x = x + self.gamma * self.mix(found)
        x = x + self.mlp_out(F.gelu(self.mlp_in(x)))
        return self.head(x[:, 0])


class TorchAttention(nn.Module):
    """``nn.MultiheadAttention``, a class token, and an MLP, without normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(6, 8)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.attention = nn.MultiheadAttention(8, 4, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2))
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.attention(x, x, x, need_weights=False)[0]
        return self.head((x + self.mlp(x))[:, 0])


class MultiQuery(nn.Module):
    """Attention whose heads share keys and values, with ``scaled_dot_product_attention``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.q, self.kv = nn.Linear(6, 10), nn.Linear(10, 16), nn.Linear(10, 8)
        self.proj, self.fc, self.num_heads = nn.Linear(16, 10), nn.Linear(10, 3), 4

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2)).relu()
        b, n, _ = x.shape
        q = self.q(x).view(b, n, self.num_heads, -1).transpose(1, 2)
        k, v = self.kv(x).unsqueeze(1).chunk(2, dim=-1)
        found = F.scaled_dot_product_attention(q, k, v)
        return self.fc(x.mean(1) + self.proj(found.transpose(1, 2).reshape(b, n, -1)).mean(1))


class WidthOfInputs(nn.Module):
    """Attention that takes its width from its inputs: the heads together are as wide as these."""

    def __init__(self, width: int = 12, num_heads: int = 4) -> None:
        super().__init__()
        self.embed, self.num_heads = nn.Linear(6, width), num_heads
        self.qkv, self.proj, self.head = (
            nn.Linear(width, 3 * width),
            nn.Linear(width, width),
            nn.Linear(width, 3),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x.flatten(2))
        b, n, width = x.shape
        qkv = self.qkv(x).reshape(b, n, 3, self.num_heads, width // self.num_heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        weights = (q @ k.transpose(-2, -1) * (width // self.num_heads) ** -0.5).softmax(dim=-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(b, n, width))
        return self.head(x.mean(1))


class FixedHeads(nn.Module):
    """Attention within windows, the number of heads a number in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.bias = nn.Conv2d(3, 16, 1), nn.Parameter(torch.randn(4, 9, 9))
        self.q, self.kv, self.proj = nn.Linear(16, 24), nn.Linear(16, 48), nn.Linear(24, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        b, c, h, w = x.shape
        x = x.view(b, c, h // 3, 3, w // 3, 3).permute(0, 2, 4, 3, 5, 1).reshape(-1, 9, c)
        q = self.q(x).view(-1, 9, 4, 6).permute(0, 2, 1, 3)
        k, v = self.kv(x).view(-1, 9, 2, 4, 6).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) * 0.4 + self.bias, dim=-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(-1, 9, 24))
        return self.head(x.view(b, -1, 16).mean(1))


CUT = {
    EinsumAttention: {"position", "to_q", "mlp_in"},
    TorchAttention: {"token", "attention", "mlp.0"},
    MultiQuery: {"embed", "q"},
    WidthOfInputs: {"embed", "qkv"},
    FixedHeads: {"embed", "q"},
}
"""The layers that stand for the groups whose units can be removed."""
SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    **dict.fromkeys(CUT, (5, 2, 3)),
    EinsumAttention: (3, 6, 6),
    FixedHeads: (3, 6, 6),
}
"""The shape of an input of each network."""
