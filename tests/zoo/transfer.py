"""Fine-tuning: frozen parts, adapters, probes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import IN_PARTS, NUM_CLASSES, Trained, member, mlp


@member("head.weight", refuses=IN_PARTS)
class LinearProbe(Trained):
    """A frozen backbone in eval mode without a graph; the head alone trains."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = mlp(64, 8, 8).requires_grad_(False), nn.Linear(8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        self.backbone.eval()
        with torch.no_grad():
            features = F.relu(self.backbone(batch[0]))
        return F.cross_entropy(self.head(features), batch[1])

    def configure_optimizers(self):
        return torch.optim.Adam(self.head.parameters(), lr=0.01)


@member("backbone.3.weight", "head.weight", refuses=IN_PARTS)
class PartlyFrozen(Trained):
    """Lower layers are frozen; the optimizer gets what needs a gradient, in two groups."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = mlp(64, 8, 8), nn.Linear(8, NUM_CLASSES)
        self.backbone[1].requires_grad_(False)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.head(F.relu(self.backbone(batch[0]))), batch[1])

    def configure_optimizers(self):
        slow = [p for p in self.backbone.parameters() if p.requires_grad]
        groups = [{"params": slow, "lr": 0.01}, {"params": self.head.parameters()}]
        return torch.optim.SGD(groups, lr=0.1, momentum=0.9)


class LoRALinear(nn.Module):
    """A frozen linear layer and a low-rank change, whose second half starts at 0."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs).requires_grad_(False)
        self.lora_A, self.lora_B = (
            nn.Parameter(torch.randn(2, inputs) * 0.1),
            nn.Parameter(torch.zeros(outputs, 2)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + F.linear(F.linear(x, self.lora_A), self.lora_B)


@member("head.weight", refuses=IN_PARTS)
class LoRA(Trained):
    """Adapters beside frozen layers, and a head that trains as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = LoRALinear(64, 8), LoRALinear(8, 8)
        self.head = nn.Linear(8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        x = F.relu(self.second(F.relu(self.first(batch[0].flatten(1)))))
        return F.cross_entropy(self.head(x), batch[1])


@member("backbone.?.weight", "head.weight", refuses=IN_PARTS)
class Unfreezing(Trained):
    """Two rates for backbone and head, and a schedule that a metric steps."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.head = mlp(64, 8, 8), nn.Linear(8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        self.log("loss", loss := F.cross_entropy(self.head(F.relu(self.backbone(batch[0]))), batch[1]))
        return loss

    def configure_optimizers(self):
        groups = [{"params": self.backbone.parameters(), "lr": 0.01}, {"params": self.head.parameters()}]
        optimizer = torch.optim.RMSprop(groups, lr=0.02, momentum=0.5)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": "loss"}}
