"""Training without labels: copies of a network, queues, contrastive losses."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.entry import IN_PARTS, NO_SOFTMAX, NUM_CLASSES, Trained, drawn, loader_of, member, mlp


def views(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return two randomly disturbed copies of ``images``."""
    return images + 0.1 * torch.randn_like(images), images * (torch.rand_like(images) > 0.2)


@torch.no_grad()
def move_towards(copied: nn.Module, network: nn.Module, share: float = 0.1) -> None:
    for p, q in zip(copied.parameters(), network.parameters(), strict=True):
        p.lerp_(q, share)


@member("online.?.weight", "predictor.?.weight", refuses=IN_PARTS, arguments=NO_SOFTMAX)
class BYOL(Trained):
    """A target network follows the online one slowly and needs no gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.online, self.predictor = mlp(64, 8, 6), mlp(6, 6, 6)
        self.target = copy.deepcopy(self.online).requires_grad_(False)

    def training_step(self, batch, batch_idx):
        first, second = views(batch[0])
        with torch.no_grad():
            goal = self.target(second)
        return 1 - F.cosine_similarity(self.predictor(self.online(first)), goal).mean()

    def on_train_batch_end(self, outputs, batch, batch_idx):
        move_towards(self.target, self.online)


@member("query.?.weight", refuses=IN_PARTS)
class MoCo(Trained):
    """A queue of earlier keys in a buffer, moved on within the training step, and a key network."""

    def __init__(self) -> None:
        super().__init__()
        self.query = mlp(64, 8, 6)
        self.key = copy.deepcopy(self.query)
        self.key.requires_grad_(False)
        self.register_buffer("queue", F.normalize(torch.randn(6, 8), dim=0))
        self.register_buffer("place", torch.zeros(1, dtype=torch.long))

    def training_step(self, batch, batch_idx):
        first, second = views(batch[0])
        with torch.no_grad():
            move_towards(self.key, self.query)
            keys = F.normalize(self.key(second), dim=1)
        queries = F.normalize(self.query(first), dim=1)
        logits = torch.cat([(queries * keys).sum(1, keepdim=True), queries @ self.queue.clone()], 1) / 0.2
        places = (torch.arange(len(keys), device=self.device) + self.place) % 8
        self.queue[:, places] = keys.T
        self.place[0] = (self.place[0] + len(keys)) % 8
        return F.cross_entropy(logits, torch.zeros(len(keys), dtype=torch.long, device=self.device))


@member("encoder.?.weight", refuses={"Fisher": "decide nothing"})
class SimCLR(Trained):
    """The contrastive loss compares each image with all others of its batch: that of one image alone is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = mlp(64, 8, 6)

    def training_step(self, batch, batch_idx):
        found = F.normalize(self.encoder(torch.cat(views(batch[0]))), dim=1)
        size = len(found)
        likeness = found @ found.T / 0.5
        likeness = likeness.masked_fill(torch.eye(size, dtype=torch.bool, device=self.device), -1e9)
        pairs = (torch.arange(size, device=self.device) + size // 2) % size
        return F.cross_entropy(likeness, pairs)


@member("tower.?.weight", arguments=NO_SOFTMAX, refuses={"Fisher": "batch of one sample fails"})
class Siamese(Trained):
    """One network is called twice in a step, and the loss is a margin, no cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = mlp(64, 8, 4)

    def training_step(self, batch, batch_idx):
        first, second = batch[0].chunk(2)
        same = (batch[1].chunk(2)[0] == batch[1].chunk(2)[1]).float()
        distance = (self.tower(first) - self.tower(second)).square().sum(1)
        return (same * distance + (1 - same) * F.relu(1 - distance)).mean()


@member("student.?.weight")
class DINO(Trained):
    """A centre is updated within the step; the teacher is kept in a plain list, outside the parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.student = mlp(64, 8, 6)
        self.teachers = [copy.deepcopy(self.student)]
        self.register_buffer("center", torch.zeros(6))

    def training_step(self, batch, batch_idx):
        first, second = views(batch[0])
        with torch.no_grad():
            goal = self.teachers[0](second)
            self.center.lerp_(goal.mean(0), 0.1)
        sharp = F.softmax((goal - self.center) / 0.04, 1)
        return -(sharp * F.log_softmax(self.student(first) / 0.1, 1)).sum(1).mean()


@member("student.?.weight", refuses=IN_PARTS)
class Distillation(Trained):
    """A trained teacher that is frozen and always in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher, self.student = mlp(64, 12, NUM_CLASSES).requires_grad_(False), mlp(64, 6, NUM_CLASSES)
        self.teacher.eval()

    def train(self, mode: bool = True):
        super().train(mode)
        self.teacher.eval()
        return self

    def training_step(self, batch, batch_idx):
        logits = self.student(batch[0])
        goal = F.softmax(self.teacher(batch[0]) / 2, 1)
        soft = F.kl_div(F.log_softmax(logits / 2, 1), goal, reduction="batchmean")
        return soft + F.cross_entropy(logits, batch[1])


@member("net.?.weight")
class OwnAverage(Trained):
    """Keeps a moving average of its weights in buffers and validates with them."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)
        for name, p in self.net.named_parameters():
            self.register_buffer("average_" + name.replace(".", "_"), p.detach().clone())

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_batch_end(self, outputs, batch, batch_idx):
        for name, p in self.net.named_parameters():
            getattr(self, "average_" + name.replace(".", "_")).lerp_(p.detach(), 0.2)


def unlabelled():
    return {"labelled": loader_of(drawn(8, 1, 8, 8), torch.arange(8) % NUM_CLASSES, batch_size=4),
            "unlabelled": loader_of(drawn(12, 1, 8, 8), batch_size=4)}  # fmt: skip


@member("net.?.weight", loaders=unlabelled)
class FixMatch(Trained):
    """A dict of loaders; pseudo-labels where the network is sure."""

    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(64, 8, NUM_CLASSES)

    def training_step(self, batch, batch_idx):
        images, classes = batch["labelled"]
        weak, strong = views(batch["unlabelled"][0])
        with torch.no_grad():
            sure, guess = F.softmax(self.net(weak), 1).max(1)
        loss = F.cross_entropy(self.net(strong), guess, reduction="none")
        return F.cross_entropy(self.net(images), classes) + (loss * (sure > 0.3)).mean()
