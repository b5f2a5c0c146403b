"""Networks that are built late, in parts, or in unusual ways."""

from __future__ import annotations

import torch
import torchmetrics
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from zoo.entry import IN_PARTS, NUM_CLASSES, Trained, member, mlp


@member("net.?.weight")
class Lazy(Trained):
    """Layers that learn their sizes from a first batch, as PyTorch's documentation makes them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Flatten(), nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(NUM_CLASSES))
        self.net(torch.zeros(1, 1, 8, 8))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])


@member("net.?.weight")
class InSetup(Trained):
    """Makes its network in ``setup``, once the data are known."""

    def setup(self, stage: str) -> None:
        torch.manual_seed(1)
        self.net = mlp(64, 8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])


@member("net.?.weight")
class InConfigureModel(Trained):
    """Makes its network in ``configure_model``."""

    def __init__(self) -> None:
        super().__init__()
        self.net = None

    def configure_model(self) -> None:
        if self.net is None:
            torch.manual_seed(1)
            self.net = mlp(64, 8, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])


class Direct(Trained):
    """A network in two parts, as the entries below compute it in other ways."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = mlp(64, 8, 8), nn.Linear(8, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(self.body(x)))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])


@member("body.?.weight", "head.weight", same_masks_as=Direct)
class Checkpointed(Direct):
    """Computes its hidden layers twice to save memory."""

    reentrant = False

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.relu(checkpoint(self.body, x, use_reentrant=self.reentrant)))


@member("body.?.weight", "head.weight", same_masks_as=Direct)
class ReentrantCheckpointed(Checkpointed):
    """The older kind, which needs an input with a gradient and hides its graph."""

    reentrant = True

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0].clone().requires_grad_()), batch[1])


@member("body.?.weight", "head.weight", same_masks_as=Direct)
class PartCompiled(Direct):
    """One part of the network is compiled in place."""

    def __init__(self) -> None:
        super().__init__()
        self.body.compile(backend="eager")


@member("net.?.weight")
class Metrics(Trained):
    """Metrics in a ModuleDict, updated and logged within the step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)
        accuracy = torchmetrics.classification.MulticlassAccuracy
        self.metrics = nn.ModuleDict(
            {"top1": accuracy(NUM_CLASSES), "top2": accuracy(NUM_CLASSES, top_k=2)}
            | {"loss": torchmetrics.MeanMetric()}
        )

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(logits := self.net(batch[0]), batch[1])
        for name in ("top1", "top2"):
            self.metrics[name](logits, batch[1])
            self.log(name, self.metrics[name], on_step=False, on_epoch=True)
        self.metrics["loss"].update(loss.detach())
        return loss

    def on_train_epoch_end(self):
        self.log("mean_loss", self.metrics["loss"].compute())
        self.metrics["loss"].reset()


@member("net.?.weight")
class Collecting(Trained):
    """Collects outputs in a list and a counter, and uses them at the end of the epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)
        self.losses: list[Tensor] = []
        self.batches_seen = 0

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self.net(batch[0]), batch[1])
        self.losses.append(loss.detach())
        self.batches_seen += 1
        return loss

    def on_train_epoch_end(self):
        assert len(self.losses) == self.trainer.num_training_batches
        self.log("epoch_loss", torch.stack(self.losses).mean())
        self.losses.clear()


@member("first.weight", "second.weight", "shared.0.weight", "shared.2.weight", refuses=IN_PARTS)
class Branches(Trained):
    """Registers one layer under two names and picks its branch at random."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 6), nn.Linear(64, 6)
        inner = nn.Linear(6, 6)
        self.shared = nn.ModuleList([inner, inner, nn.Linear(6, NUM_CLASSES)])

    def training_step(self, batch, batch_idx):
        x = batch[0].flatten(1)
        x = self.first(x) if batch_idx % 2 else self.second(x)
        for layer in self.shared[:2]:
            x = F.relu(layer(x))
        return F.cross_entropy(self.shared[2](x), batch[1])


@member("net.?.weight", not_resumable="the list is not in the checkpoint")
class Remembering(Trained):
    """A buffer that counts steps and is not saved, and a list of earlier outputs that the loss reads."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)
        self.register_buffer("steps", torch.zeros((), dtype=torch.long), persistent=False)
        self.history = [torch.zeros(NUM_CLASSES)]

    def training_step(self, batch, batch_idx):
        self.steps += 1
        logits = self.net(batch[0])
        self.history.append(logits.detach().mean(0))
        return F.cross_entropy(logits + 0.1 * self.history[-2], batch[1])
