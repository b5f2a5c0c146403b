"""One epoch of ``fc`` on MNIST with its test pass: a run of prunelit compared with a plain loop.

    python benchmarks/epoch.py --data-root DIR [--repeats N] [--logger NAME] [--workers N]

Both train six linear layers at batch size 64 with Adam and then test. The plain way is what published
pruning code does: a DataLoader that opens each image with Pillow, ToTensor and Normalize; unfused
Adam; a hand-written loop; layers that multiply their weights by masks. prunelit's way is all that
``python -m prunelit.train data=mnist`` does in an epoch: Trainer, masks held, accuracies, checkpoints,
metrics.csv, logger. The two alternate in one process; ``ratio`` is the plain median over prunelit's, and
``cpu_ratio`` that of processor seconds, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from contextlib import redirect_stdout
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from setting import setting
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from prunelit.study.configs import CONFIGS
from prunelit.train import train
from prunelit.training.run import parts

BATCH_SIZE, TEST_BATCH_SIZE, DENSITY = 64, 256, 10**-0.5


class PlainLoop:
    """The plain way: called once an epoch; returns the test accuracy in percent."""

    def __init__(self, root: Path, workers: int) -> None:
        from torchvision import datasets, transforms

        steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
        train, test = (datasets.MNIST(root, train=train, transform=steps) for train in (True, False))
        self.train_loader = DataLoader(train, BATCH_SIZE, shuffle=True, num_workers=workers)
        self.test_loader = DataLoader(test, TEST_BATCH_SIZE, num_workers=workers)
        sizes = [784, 100, 100, 100, 100, 100, 10]
        layers = [layer for i in range(6) for layer in (MaskedLinear(sizes[i], sizes[i + 1]), nn.ReLU())]
        self.network = nn.Sequential(nn.Flatten(), *layers[:-1])
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=0.001)

    def __call__(self) -> float:
        self.network.train()
        total = 0.0
        for images, labels in self.train_loader:
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.network(images), labels)
            total += loss.item() * len(labels)
            loss.backward()
            self.optimizer.step()
        return self.test()

    @torch.no_grad()
    def test(self) -> float:
        self.network.eval()
        total, hits, hits5 = 0.0, 0.0, 0.0
        for images, labels in self.test_loader:
            logits = self.network(images)
            total += F.cross_entropy(logits, labels).item() * len(labels)
            correct = logits.topk(5, dim=1).indices.eq(labels[:, None])
            hits += correct[:, 0].sum().item()
            hits5 += correct.sum().item()
        return 100 * hits / len(self.test_loader.dataset)  # type: ignore[arg-type]


class MaskedLinear(nn.Linear):
    """Multiplies weight and bias by their masks in each forward pass, as published layers do."""

    weight_mask: Tensor
    bias_mask: Tensor

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.register_buffer("weight_mask", (torch.rand(outputs, inputs) < DENSITY).float())
        self.register_buffer("bias_mask", torch.ones(outputs))

    def forward(self, images: Tensor) -> Tensor:
        weight, bias = self.weight_mask * self.weight, self.bias_mask * self.bias
        return F.linear(images, weight, bias)


class Clock(Callback):
    """Times each epoch of a fit, from its start to the next one's, and before each a plain epoch.

    Times are pairs: seconds on the wall, and seconds of the processor in this process.
    """

    def __init__(self, plain: PlainLoop) -> None:
        self.plain, self.plain_top1 = plain, 0.0
        self.started: tuple[float, float] | None = None
        self.plain_seconds: list[tuple[float, float]] = []
        self.seconds: list[tuple[float, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note_epoch()
        torch.set_flush_denormal(False)  # PyTorch's default, which the loop by hand does not change
        start = now()
        self.plain_top1 = self.plain()
        self.plain_seconds.append(since(start))
        torch.set_flush_denormal(True)
        self.started = now()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.note_epoch()

    def note_epoch(self) -> None:
        if self.started:
            self.seconds.append(since(self.started))


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    return time.perf_counter() - start[0], time.process_time() - start[1]


def run(overrides: list[str], clock: Clock) -> float:
    """Do a whole run with the clock among its callbacks; return its test accuracy in percent."""
    build_trainer = parts.build_trainer

    def build_trainer_with_clock(*args: Any, **kwargs: Any) -> pl.Trainer:
        trainer = build_trainer(*args, **kwargs)
        trainer.callbacks.insert(0, clock)  # type: ignore[attr-defined]
        return trainer

    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", [f"output_dir={folder}", *overrides])
        parts.build_trainer = build_trainer_with_clock
        with redirect_stdout(sys.stderr):
            return float(train(cfg)["top1"])


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data-root", type=Path, default=Path("data"), help="folder of MNIST/raw; data")
    arguments.add_argument("--repeats", type=int, default=5, help="epochs timed, after one to warm up; 5")
    arguments.add_argument("--logger", default="tensorboard", help="tensorboard (default), csv or none")
    arguments.add_argument("--workers", type=int, default=0, help="of the plain DataLoader; 0: in process")
    given = arguments.parse_args()
    overrides = [
        *("data=mnist", f"data.root={given.data_root}", "trainer=cpu", "pruner.rounds=1"),
        *(f"logger={given.logger}", f"epochs={given.repeats + 1}"),
    ]
    clock = Clock(PlainLoop(given.data_root, given.workers))
    top1 = run(overrides, clock)
    plain, plain_cpu = map(median, zip(*clock.plain_seconds[1:], strict=True))
    ours, ours_cpu = map(median, zip(*clock.seconds[1:], strict=True))
    record = {
        "benchmark": "epoch",
        "ratio": round(plain / ours, 2),
        "cpu_ratio": round(plain_cpu / ours_cpu, 2),
        "plain_seconds": round(plain, 2),
        "prunelit_seconds": round(ours, 2),
        "plain_top1": round(clock.plain_top1, 2),
        "prunelit_top1": round(top1, 2),
        "logger": given.logger,
        "workers": given.workers,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
