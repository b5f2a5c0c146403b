"""Small networks that put layers together in ways that people write by hand."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations


class FlattenedByNumber(nn.Module):
    """``view(-1, 72)`` between a convolution and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 8, 3)
        self.hidden, self.fc = nn.Linear(72, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(self.second(self.first(x).relu()).relu(), 2)
        return self.fc(F.dropout(self.hidden(x.view(-1, 72)).relu(), 0.5, self.training))


class Flattened(nn.Module):
    """Flattened with the batch from the input, and with -1."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3, stride=2), nn.PReLU(8)
        self.hidden, self.fc = nn.Linear(128, 12), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.conv(x))
        return self.fc(self.hidden(x.view(x.size(0), -1)).tanh())


class Skips(nn.Module):
    """A U of convolutions: a concatenation with what an earlier layer made."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.deep = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 10, 3, stride=2, padding=1)
        self.up, self.join = nn.ConvTranspose2d(10, 8, 2, stride=2), nn.Conv2d(14, 6, 3, padding=1)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x).relu()
        x = self.up(self.deep(skip).relu())
        return self.out(self.join(torch.cat((x, skip), dim=1)).relu())


class Shuffled(nn.Module):
    """Modules for pixel shuffle, pixel unshuffle and channel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2),
            nn.Conv2d(12, 16, 1),
            nn.ReLU(),
            nn.Conv2d(16, 16, 3, padding=1, groups=4),
            nn.ChannelShuffle(4),
            nn.Conv2d(16, 16, 1),
            nn.PixelShuffle(2),
            nn.Conv2d(4, 3, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransposedGroups(nn.Module):
    """Transposed convolutions in groups."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3)
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2, groups=4)
        self.wide = nn.ConvTranspose2d(8, 32, 1, groups=2)
        self.out = nn.Conv2d(32, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.wide(self.up(self.stem(x).relu()).relu()).relu())


class Shared(nn.Module):
    """One block used twice, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.block = nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8))
        self.encode, self.decode = nn.Linear(8, 6, bias=False), nn.Linear(8, 6, bias=False)
        self.decode.weight = self.encode.weight
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.block(x).relu()
        x = (x + self.block(x).relu()).mean(dim=[2, 3])
        return self.head(self.encode(x).relu() + self.decode(x.neg()).relu())


class Gated(nn.Module):
    """``glu``, ``chunk`` with a gate, ``unsqueeze`` and ``squeeze``."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 16, 3)
        self.gates, self.mix = nn.Linear(8, 12), nn.Conv1d(1, 1, 3, padding=1)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.glu(self.conv(x), dim=1), 1).squeeze(-1).squeeze(-1)
        a, b = self.gates(x.unsqueeze(1)).squeeze(1).chunk(2, dim=-1)
        return self.fc(F.silu(a) * b)


class Reparametrized(nn.Module):
    """Layers under ``weight_norm``, and one that has none."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = parametrizations.weight_norm(nn.Conv2d(3, 8, 3))
        self.next = parametrizations.weight_norm(nn.Conv2d(8, 10, 3))
        self.plain, self.fc = nn.Conv2d(10, 12, 1), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.plain(self.next(self.stem(x).relu()).relu()).amax((2, 3)))


Found = namedtuple("Found", ["logits", "features"])


class ManyOutputs(nn.Module):
    """A dict with a tuple in it: what is returned stays, what is not goes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.ModuleDict({"a": nn.Conv2d(3, 8, 3), "b": nn.Conv2d(8, 10, 3)})
        self.heads = nn.ModuleList([nn.Linear(10, 3), nn.Linear(10, 2)])

    def forward(self, x: Tensor) -> Any:
        for layer in self.body.values():
            x = F.leaky_relu(layer(x), 0.1)
        pooled = x.flatten(2).mean(-1)
        return {"found": Found(self.heads[0](pooled), self.heads[1](pooled)), "extra": [x.sum((1, 2, 3))]}


class InPlace(nn.Module):
    """Operations in place, nested ``Sequential`` with functional calls between."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True)),
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        )
        self.offset, self.fc = nn.Parameter(torch.randn(8)), nn.Linear(32, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages[0](x)
        y = self.stages[1](x)
        y += x
        y.add_(self.offset.view(1, -1, 1, 1)).relu_()
        y = torch.stack([y, y * 2], dim=0).sum(0)
        return self.fc(torch.flatten(F.adaptive_max_pool2d(y, 2), start_dim=1))


class Unfoldings(nn.Module):
    """A table of scales looked up by channel, and an average over named axes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.scale = nn.Conv2d(3, 8, 3), nn.Parameter(torch.rand(1, 8, 1, 1))
        self.gate, self.fc = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x) * self.scale
        gate = torch.sigmoid(self.gate(x.mean(-1).mean(-1)))
        x = x * gate[:, :, None, None].expand_as(x)
        return self.fc(x.permute(0, 2, 3, 1).mean((1, 2)))


class Bilinear(nn.Module):
    """A product of features with ``matmul``, and ``addmm`` with bare parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 8), nn.Linear(6, 8)
        self.weight, self.bias = nn.Parameter(torch.randn(9, 5)), nn.Parameter(torch.randn(5))
        self.fc = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2)
        products = torch.matmul(self.left(x), self.right(x).transpose(1, 2)).flatten(1)
        return self.fc(torch.addmm(self.bias, products, self.weight).relu())


class Sliced(nn.Module):
    """Channels taken apart by slices at numbers, with a part that passes by."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.part = nn.Conv2d(3, 12, 3), nn.Conv2d(4, 6, 1)
        self.last, self.fc = nn.Conv2d(14, 10, 1), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu()
        x = torch.cat([self.part(x[:, :4]), x[:, 4:]], 1)
        return self.fc(self.last(x).relu().mean((-2, -1)))


class Unfollowed(nn.Module):
    """An operation that nothing is known of, in the middle."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 10, 3)
        self.third, self.fc = nn.Conv2d(10, 12, 1), nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(self.first(x).relu())
        x = x + torch.fft.fft(x, dim=1).real
        return self.fc(self.third(x).relu().mean((2, 3)))


class Mlp1d(nn.Module):
    """``Conv1d``, BatchNorm1d on features, and an LSTM that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv1d(3, 8, 3), nn.BatchNorm1d(8)
        self.rnn, self.hidden = nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 10)
        self.fc_norm, self.fc = nn.BatchNorm1d(10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x.flatten(2))).relu().transpose(1, 2)
        return self.fc(self.fc_norm(self.hidden(self.rnn(x)[0][:, -1])).relu())


CUT = {
    FlattenedByNumber: {"first", "second", "hidden"},
    Flattened: {"conv", "hidden"},
    Skips: {"down", "deep", "up", "join"},
    Shuffled: {"net.1", "net.5"},
    TransposedGroups: {"stem"},
    Shared: {"stem", "encode"},
    Gated: {"conv", "gates"},
    Reparametrized: {"plain"},
    ManyOutputs: {"body.a", "body.b"},
    InPlace: {"offset"},
    Unfoldings: {"scale"},
    Bilinear: {"left", "weight"},
    Sliced: {"conv", "part", "last"},
    Unfollowed: {"first", "third"},
    Mlp1d: {"hidden"},
}
"""The layers that stand for the groups whose units can be removed."""
SHAPES: dict[type[nn.Module], tuple[int, ...]] = {
    **dict.fromkeys(CUT, (3, 10, 10)),
    Bilinear: (3, 2, 3),
}
