"""Networks for images: convolutions, skip connections, attention over patches."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import IN_PARTS, NUM_CLASSES, Trained, drawn, labels, loader_of, member


@member("net.0.weight", "net.4.weight")
class InPlace(Trained):
    """BatchNorm and an activation that overwrites its input."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(),
            nn.Linear(36, NUM_CLASSES),
        )  # fmt: skip

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])


def segments():
    return loader_of(drawn(12, 1, 8, 8), (drawn(12, 8, 8) > 0).long())


@member("down.weight", "bottom.weight", "up.weight", "out.weight", loaders=segments)
class UNet(Trained):
    """Segmentation with a transposed convolution and a skip connection."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(1, 3, 3, padding=1)
        self.bottom = nn.Conv2d(3, 4, 3, padding=1)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.out = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = F.relu(self.down(x))
        low = F.relu(self.bottom(F.max_pool2d(high, 2)))
        return self.out(torch.cat([high, F.relu(self.up(low))], 1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1, bias=False), nn.BatchNorm2d(3)
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.scale * self.norm(self.conv(x)))


@member("stem.weight", "blocks.?.conv.weight", "head.weight")
class ZeroScale(Trained):
    """A residual network whose branches start with a scale of 0."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 3, 3, stride=2)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(3, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])


@member("patches.weight", "attend.in_proj_weight", "attend.out_proj.weight", "mlp.?.weight", "head.weight")
class ViT(Trained):
    """Patches, a class token, learned positions, attention and an MLP, each after a LayerNorm."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 8, 4, stride=4)
        self.token = nn.Parameter(torch.randn(1, 1, 8) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, 5, 8) * 0.02)
        self.before, self.between = nn.LayerNorm(8), nn.LayerNorm(8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.mlp = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Dropout(0.1), nn.Linear(12, 8))
        self.head = nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        queries = self.before(x)
        x = x + self.attend(queries, queries, queries, need_weights=False)[0]
        return self.head((x + self.mlp(self.between(x)))[:, 0])

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])


def boxes():
    return loader_of(drawn(12, 1, 8, 8), labels(), drawn(12, 4).sigmoid())


@member("body.weight", "classes.weight", "boxes.weight", loaders=boxes)
class Detector(Trained):
    """``forward`` returns losses where targets are given, as torchvision's detectors do, else boxes."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 4, 3, stride=2)
        self.classes, self.boxes = nn.Linear(36, NUM_CLASSES), nn.Linear(36, 4)

    def forward(self, x: Tensor, targets: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        features = F.relu(self.body(x)).flatten(1)
        scores, boxes = self.classes(features), self.boxes(features).sigmoid()
        if targets is None:
            return {"scores": scores, "boxes": boxes}
        loss = F.cross_entropy(scores, targets["labels"])
        return {"classification": loss, "regression": F.smooth_l1_loss(boxes, targets["boxes"])}

    def training_step(self, batch, batch_idx):
        losses = self(batch[0], {"labels": batch[1], "boxes": batch[2]})
        self.log_dict(losses)
        return sum(losses.values())


@member("out.weight", refuses=IN_PARTS)
class WeightNorm(Trained):
    """Layers whose weight is computed from others; what computes it isn't prunable."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.utils.parametrizations.weight_norm(nn.Linear(64, 8))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))
        self.out = nn.Linear(8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        x = F.relu(self.spectral(F.relu(self.hidden(batch[0].flatten(1)))))
        return F.cross_entropy(self.out(x), batch[1])


@member("net.0.weight", "net.2.weight", "net.5.weight")
class Separable(Trained):
    """A depthwise convolution, GroupNorm and global pooling, as in mobile networks."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3, stride=2), nn.SiLU(), nn.Conv2d(4, 4, 3, groups=4), nn.GroupNorm(2, 4),
            nn.Flatten(), nn.Linear(4, NUM_CLASSES),
        )  # fmt: skip

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1], label_smoothing=0.1)
