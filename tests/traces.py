"""Modules whose training steps change every kind of thing, for tests that scoring leaves no trace."""

from __future__ import annotations

import copy
import itertools
import random
from collections import Counter, deque
from queue import Queue

import lightning.pytorch as pl
import numpy as np
import torch
import torchmetrics
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


def data(samples: int = 32) -> TensorDataset:
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(samples, 1, 4, 4, generator=generator)
    return TensorDataset(images, torch.randint(4, (samples,), generator=generator))


def batches(**options) -> DataLoader:
    return DataLoader(data(), **({"batch_size": 8, "shuffle": True} | options))


class Plain(pl.LightningModule):
    """A small classifier with dropout and batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3)
        )
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        return self.head(self.net(images))

    def training_step(self, batch, batch_idx):
        loss = F.cross_entropy(self(batch[0]), batch[1])
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)]


class Meter:
    """A plain object with slots and attributes."""

    __slots__ = ("__total", "count", "rest")

    def __init__(self) -> None:
        self.__total, self.count, self.rest = 0.0, 0, []

    def update(self, value: float) -> None:
        self.__total, self.count = self.__total + value, self.count + 1
        self.rest.append(value)


class Containers(Plain):
    """Changes containers, arrays and scalars of every kind, its own and those of objects that it holds."""

    shared: list[float] = []
    count_of_class = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).shared, type(self).count_of_class = [], 0
        self.steps, self.losses, self.by_name = 0, [], {}
        self.recent, self.queue, self.seen = deque(maxlen=3), Queue(), set()
        self.array, self.counter, self.meter = np.zeros(2), Counter(), Meter()
        self.nested = {"a": [(Meter(), [1, 2])]}
        self.tensor, self.replay = torch.zeros(3), [torch.ones(2)]
        self.flag = True

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        value = float(loss)
        self.steps += 1
        self.losses.append(value)
        self.by_name[f"step {self.steps}"] = loss.detach()
        self.recent.append(value)
        self.queue.put(value)
        self.seen.add(round(value, 3))
        self.array += value
        self.counter["steps"] += 1
        self.meter.update(value)
        self.nested["a"][0][0].update(value)
        self.nested["a"][0][1].pop()
        self.nested["a"][0][1].extend([3, self.steps])
        self.tensor += value
        self.replay[0].data.mul_(0.9)
        self.shared.append(value)
        type(self).count_of_class += 1
        self.flag = not self.flag
        self.made_in_step = value
        return loss * (1 + 0.1 * (self.steps % 3) + 0.01 * len(self.losses))


class Randomness(Plain):
    """Draws from every kind of random number generator that it owns, and from the global ones."""

    def __init__(self) -> None:
        super().__init__()
        self.generator = torch.Generator().manual_seed(1)
        self.numpy, self.old_numpy = np.random.default_rng(1), np.random.RandomState(1)
        self.python, self.iterator = random.Random(1), itertools.count()

    def training_step(self, batch, batch_idx):
        draws = [float(torch.rand((), generator=self.generator)), self.numpy.random(), self.old_numpy.rand()]
        draws += [self.python.random(), random.random(), np.random.rand(), float(torch.rand(()))]
        return super().training_step(batch, batch_idx) * (1 + sum(draws) / 10 + next(self.iterator) / 100)


class Buffers(Plain):
    """Moves a queue of features, vectors of spectral normalisation, and a state between batches."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 4))
        self.register_buffer("queue", torch.zeros(16, 8))
        self.register_buffer("pointer", torch.zeros(1, dtype=torch.long))
        self.recurrent, self.state = nn.LSTMCell(8, 8), None

    def training_step(self, batch, batch_idx):
        features = self.net(batch[0])
        start = int(self.pointer)
        similar = features @ self.queue.clone().T
        self.queue[start : start + 8] = features.detach()
        self.pointer[0] = (start + 8) % 16
        self.state = self.recurrent(features, self.state)
        loss = F.cross_entropy(self.head(self.state[0]), batch[1]) + 0.01 * similar.logsumexp(1).mean()
        self.state = tuple(each.detach() for each in self.state)
        return loss


class Teacher(Plain):
    """Moves a copy that needs no gradient in its training step, and another part that has gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = copy.deepcopy(self.net).requires_grad_(False)
        self.outside = [copy.deepcopy(self.head)]  # no submodule

    def training_step(self, batch, batch_idx):
        for ours, theirs in zip(self.net.parameters(), self.teacher.parameters(), strict=True):
            theirs.data.mul_(0.9).add_(ours.data, alpha=0.1)
        with torch.no_grad():
            self.outside[0].weight.mul_(0.9).add_(self.head.weight, alpha=0.1)
            goal = self.outside[0](self.teacher(batch[0]))
        return super().training_step(batch, batch_idx) + F.mse_loss(self(batch[0]), goal)


class Metrics(Plain):
    """Updates metrics in a ModuleDict, in a list and in a plain object, and logs within a submodule."""

    def __init__(self) -> None:
        super().__init__()
        accuracy = torchmetrics.classification.MulticlassAccuracy
        self.in_dict = nn.ModuleDict({"trained": accuracy(4)})
        self.in_list, self.meter = [accuracy(4)], Meter()
        self.meter.rest = torchmetrics.MetricCollection({"mean": torchmetrics.MeanMetric()})

    def training_step(self, batch, batch_idx):
        logits = self(batch[0])
        self.log("train", self.in_dict["trained"](logits, batch[1]), on_step=True, on_epoch=True)
        self.in_list[0].update(logits, batch[1])
        self.meter.rest.update(logits.detach())
        self.log("mean", float(self.meter.rest["mean"].compute()) + float(self.in_list[0].compute()))
        return super().training_step(batch, batch_idx)


class Hooked(Plain):
    """Has a hook that counts in a variable of another scope and in attributes of a function."""

    def __init__(self) -> None:
        super().__init__()
        count, self.kept = 0, []
        kept = self.kept

        def hook(module, inputs, output):
            nonlocal count
            count += 1
            kept.append(count)
            hook.calls += 1
            return output * (1 + 0.01 * count)

        hook.calls = 0
        self.hook = hook
        self.head.register_forward_hook(hook)


class ByHand(Plain):
    """Steps two optimizers and a schedule by hand; SynFlow and Mag need no loss of it."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        first, second = self.optimizers()
        for optimizer in (first, second):
            self.toggle_optimizer(optimizer)
            loss = F.cross_entropy(self(batch[0]), batch[1])
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.untoggle_optimizer(optimizer)
        self.lr_schedulers().step()
        self.log("loss", loss)

    def pruning_loss(self, batch):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        first = torch.optim.Adam(self.net.parameters(), 0.01)
        second = torch.optim.SGD(self.head.parameters(), 0.1, momentum=0.9)
        return [first, second], [torch.optim.lr_scheduler.StepLR(first, 2)]


class Loaders(Plain):
    """Takes batches of several loaders, and of one that it reads itself."""

    def __init__(self) -> None:
        super().__init__()
        self.unlabelled = iter(batches(num_workers=0))
        self.endless = (torch.full((), float(i)) for i in itertools.count())

    def training_step(self, batch, batch_idx):
        parts = batch.values() if isinstance(batch, dict) else batch
        loss = sum(super(Loaders, self).training_step(part, batch_idx) for part in parts if part is not None)
        try:
            images, _ = next(self.unlabelled)
        except StopIteration:
            self.unlabelled = iter(batches(num_workers=0))
            images, _ = next(self.unlabelled)
        return loss + self(images).square().mean() + 0.001 * next(self.endless)
