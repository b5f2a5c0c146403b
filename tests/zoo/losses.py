"""Endings: what the network returns and what the loss makes of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import NO_SOFTMAX, NUM_CLASSES, Trained, drawn, labels, loader_of, member, mlp


@member("net.?.weight")
class LogSoftmax(Trained):
    """``forward`` ends in log_softmax, as in Lightning's tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, 6, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return F.log_softmax(self.net(x), dim=1)

    def training_step(self, batch, batch_idx):
        return F.nll_loss(self(batch[0]), batch[1])


@member("net.?.weight")
class Probabilities(Trained):
    """The network itself ends in a softmax layer."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(*mlp(64, 8, NUM_CLASSES), nn.Softmax(1))

    def training_step(self, batch, batch_idx):
        return F.nll_loss((self.net(batch[0]) + 1e-8).log(), batch[1])


def several_labels():
    return loader_of(drawn(12, 1, 8, 8), (drawn(12, 3) > 0).float())


@member("net.?.weight", loaders=several_labels, arguments=NO_SOFTMAX)
class MultiLabel(Trained):
    """A sigmoid for each of three labels; the loss is computed by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.criterion = nn.Sequential(*mlp(64, 8, 3), nn.Sigmoid()), nn.BCELoss()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch, batch_idx):
        return self.criterion(self(batch[0]), batch[1])


def two_tasks():
    return loader_of(drawn(12, 1, 8, 8), labels(), drawn(12))


@member("body.?.weight", "heads.*.weight", loaders=two_tasks)
class MultiTask(Trained):
    """A dict of outputs, and losses weighted by learned uncertainties."""

    def __init__(self) -> None:
        super().__init__()
        self.body = mlp(64, 8, 8)
        self.heads = nn.ModuleDict({"kind": nn.Linear(8, NUM_CLASSES), "size": nn.Linear(8, 1)})
        self.log_variances = nn.Parameter(torch.zeros(2))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = F.relu(self.body(x))
        return {name: head(features) for name, head in self.heads.items()}

    def training_step(self, batch, batch_idx):
        found = self(batch[0])
        losses = torch.stack(
            [F.cross_entropy(found["kind"], batch[1]), F.mse_loss(found["size"].squeeze(1), batch[2])]
        )
        return (losses * (-self.log_variances).exp() + self.log_variances).sum()


def numbers():
    return loader_of(drawn(12, 5), drawn(12))


@member("net.?.weight", loaders=numbers, arguments=NO_SOFTMAX)
class Regression(Trained):
    """Squeezes its only output, and ends in tanh."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.net(x)).squeeze(-1)

    def training_step(self, batch, batch_idx):
        return F.huber_loss(self(batch[0]), batch[1])


@member("net.?.weight")
class Mixup(Trained):
    """Mixes the images of a batch by random shares within the step."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        images, classes = batch
        share = torch.distributions.Beta(0.4, 0.4).sample().to(images)
        order = torch.randperm(len(images), device=images.device)
        logits = self.net(share * images + (1 - share) * images[order])
        return share * F.cross_entropy(logits, classes) + (1 - share) * F.cross_entropy(
            logits, classes[order]
        )


@member("net.?.weight")
class TupleOutput(Trained):
    """The network returns logits and features, and the features are penalised."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 8), nn.Linear(8, NUM_CLASSES)

        def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
            features = F.relu(self.a(x.flatten(1)))
            return self.b(features), [features]

    def __init__(self) -> None:
        super().__init__()
        self.net = self.Net()

    def training_step(self, batch, batch_idx):
        logits, (features,) = self.net(batch[0])
        return F.cross_entropy(logits, batch[1]) + 0.01 * features.abs().mean()
