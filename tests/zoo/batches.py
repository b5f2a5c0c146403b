"""Batches in every shape, loaders of every kind, and training steps with every signature."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, WeightedRandomSampler

from zoo.entry import NUM_CLASSES, Trained, drawn, labels, loader_of, member, mlp


class Plain(Trained):
    """A small network for the entries below."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)


class Pictures(Dataset):
    """Gives dicts of NumPy arrays, raw bytes as they are stored, and a name."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, place: int) -> dict[str, Any]:
        pixels = (drawn(12, 1, 8, 8)[place] * 40 + 128).clamp(0, 255).byte().numpy()
        return {"image": pixels, "label": np.int64(place % NUM_CLASSES), "name": f"{place}.png"}


def pictures():
    return DataLoader(Pictures(), batch_size=4)


@member("net.?.weight", loaders=pictures, not_resumable="augments before the batch begins, by any state")
class DictBatches(Plain):
    """Normalises the bytes in ``on_before_batch_transfer`` and augments in ``on_after_batch_transfer``."""

    def on_before_batch_transfer(self, batch, dataloader_idx):
        return batch | {"image": batch["image"].float() / 255 - 0.5}

    def on_after_batch_transfer(self, batch, dataloader_idx):
        return batch | {"image": batch["image"].flip(-1) if random.random() < 0.5 else batch["image"]}

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["image"]), batch["label"])


class Example(NamedTuple):
    image: Tensor
    target: Tensor


def named_tuples():
    data = [Example(image, label) for image, label in zip(drawn(12, 1, 8, 8), labels(), strict=True)]
    return DataLoader(data, batch_size=4)


@member("net.?.weight", loaders=named_tuples)
class NamedTuples(Plain):
    """Batches are named tuples, and the module moves them by hand."""

    def transfer_batch_to_device(self, batch, device, dataloader_idx):
        return Example(batch.image.to(device), batch.target.to(device))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch.image), batch.target)


class Stream(IterableDataset):
    """Images as they come; it cannot say how many there are, and remembers how far it got."""

    def __init__(self) -> None:
        self.served = 0

    def __iter__(self):
        for image, label in zip(drawn(12, 1, 8, 8), labels(), strict=True):
            self.served += 1
            yield image + self.served / 100, label


def stream():
    return DataLoader(Stream(), batch_size=4)


@member("net.?.weight", loaders=stream, not_resumable="the data set counts what it served")
class Streaming(Plain):
    """Iterable data with a state of its own."""

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])


def two_loaders():
    return [loader_of(drawn(12, 1, 8, 8), labels()), loader_of(drawn(8, 1, 8, 8), labels(8), batch_size=2)]


@member("net.?.weight", loaders=two_loaders)
class TwoLoaders(Plain):
    """A list of loaders, of which the shorter one starts again."""

    def training_step(self, batch, batch_idx):
        return sum(F.cross_entropy(self.net(images), classes) for images, classes in batch)


def weighted():
    sampler = WeightedRandomSampler(torch.ones(12), 12, generator=torch.Generator().manual_seed(3))
    data = list(zip(drawn(12, 1, 8, 8), labels(), strict=True))
    return DataLoader(data, batch_size=4, sampler=sampler)


@member("net.?.weight", loaders=weighted, not_resumable="no checkpoint has the sampler's generator")
class Weighted(Plain):
    """A sampler with a generator of its own, and a step with an option by keyword."""

    def training_step(self, batch, batch_idx, *, weight: float = 2.0):
        assert weight == 2.0
        return weight * F.cross_entropy(self.net(batch[0]), batch[1])


def shuffled():
    data = list(zip(drawn(12, 1, 8, 8), labels(), strict=True))
    return DataLoader(data, batch_size=4, shuffle=True, drop_last=True)


@member("net.?.weight", loaders=shuffled, not_resumable="the order comes from the global generator")
class Shuffled(Plain):
    """The usual shuffled loader, and dropout by the global generator."""

    def training_step(self, batch, batch_idx, dataloader_idx=0):
        assert dataloader_idx == 0
        return F.cross_entropy(F.dropout(self.net(batch[0]), 0.2), batch[1])


def replayed():
    return DataLoader(torch.arange(6), batch_size=2)


@member("net.?.weight", loaders=replayed, not_resumable="the buffer is not in the checkpoint")
class Replay(Plain):
    """Draws its real batches from a buffer that the step fills, as in reinforcement learning."""

    def __init__(self) -> None:
        super().__init__()
        self.buffer = [(image, int(label)) for image, label in zip(drawn(4, 1, 8, 8), labels(4), strict=True)]

    def training_step(self, batch, batch_idx):
        images, classes = zip(*random.sample(self.buffer, 4), strict=True)
        noisy = torch.stack(images) + np.random.normal() * 0.01
        self.buffer.append((noisy[0].detach(), classes[0]))
        return F.cross_entropy(self.net(noisy), torch.tensor(classes, device=self.device))


@member("net.?.weight")
class NoBatchIndex(Plain):
    """A step that takes the batch alone, counts its calls, and skips the second update."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def training_step(self, batch):
        self.calls += 1
        return None if self.trainer.global_step == 1 else F.cross_entropy(self.net(batch[0]), batch[1])


@member("net.?.weight")
class ChangedRows(Plain):
    """Optimizes in ``optimizer_step`` of its own, with a warm-up, and edits gradients before it."""

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def on_before_optimizer_step(self, optimizer):
        for p in self.parameters():
            p.grad.add_(0.01)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None):
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        for group in optimizer.param_groups:
            group["lr"] *= 0.9
