"""Small networks, each with one kind of coupling between the units of its layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Residual(nn.Module):
    """A sum of a convolution's outputs and its inputs, behind a depthwise convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8)
        self.conv, self.prelu = nn.Conv2d(8, 8, 1), nn.PReLU(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.stem(x)).relu_()
        x = x + self.prelu(self.conv(self.depthwise(x)))
        return self.fc(x.mean((2, 3)))


class Dense(nn.Module):
    """Concatenation, a squeeze-and-excitation gate, and a flattened image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.squeeze, self.excite = nn.Conv2d(10, 4, 1), nn.Conv2d(4, 10, 1)
        self.fc = nn.Linear(10 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        x = self.norm(torch.cat([x, self.second(x)], 1))
        x = x * self.excite(self.squeeze(F.adaptive_avg_pool2d(x, 1)).relu()).sigmoid()
        return self.fc(torch.flatten(F.max_pool2d(x, 2), 1))


class Grouped(nn.Module):
    """Convolutions in narrow and in wide groups, GroupNorm, and a channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 16, 3), nn.GroupNorm(4, 16)
        self.narrow = nn.Conv2d(16, 16, 3, groups=8)
        self.wide = nn.Conv2d(16, 32, 1, groups=2)
        self.last = nn.Conv2d(32, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.wide(self.narrow(self.norm(self.stem(x)).relu()).relu())
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.last(x).mean((2, 3))


class Decoder(nn.Module):
    """Transposed convolutions, pixel shuffle, halves of channels, and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.scale = nn.Conv2d(3, 8, 3, stride=2), nn.Parameter(torch.rand(8, 1, 1))
        self.up, self.spread = nn.ConvTranspose2d(8, 12, 2, stride=2), nn.Conv2d(12, 16, 1)
        self.depthwise = nn.ConvTranspose2d(4, 4, 2, groups=4)
        self.last = nn.Conv2d(2, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.pixel_shuffle(self.spread(self.up(self.stem(x) * self.scale).relu()), 2)
        a, b = self.depthwise(x).chunk(2, 1)
        return self.last(a * b.sigmoid())


class Attention(nn.Module):
    """Attention written by hand, with a bias for each head, and a multi-layer perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.num_heads, self.scale = 4, 2.0
        self.norm, self.qkv, self.proj = nn.LayerNorm(8), nn.Linear(8, 3 * 24), nn.Linear(24, 8)
        self.bias = nn.Parameter(torch.randn(4, 1, 1))
        self.mlp = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 10), nn.GELU(), nn.Linear(10, 8))
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        n, length, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) * self.scale + self.bias).softmax(-1)
        x = x + self.proj((weights @ v).transpose(1, 2).reshape(n, length, -1))
        return self.head((x + self.mlp(x)).mean(1))


SHAPES = {Residual: (3, 8, 8), Dense: (3, 8, 8), Grouped: (3, 8, 8), Decoder: (3, 8, 8), Attention: (8, 3, 3)}
"""The shape of an input of each network."""


def settled(kind: type[nn.Module]) -> nn.Module:
    """Return a network in eval mode, none of whose numbers is one that hides a mistake."""
    torch.manual_seed(0)
    network = kind()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
    return network.eval()
