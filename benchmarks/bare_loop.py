"""One epoch on MNIST with its test pass: a run of prunelit compared with a bare loop over tensors in memory.

    python benchmarks/bare_loop.py --data-root DIR [--model fc|lenet5|conv] [--batch-size N] [--precision P]
        [--channels-last]

The bare loop trains the same network with the same fused optimizer on batches cut out of one tensor, without
Lightning, DataLoader, metrics, masks and checkpoints. ``arithmetic_seconds`` are those of its forward and
backward passes, ``optimizer_seconds`` those of its optimizer's steps: what prunelit takes beyond them is the
share of everything else. ``--precision`` and ``--channels-last`` change the run only; the bare loop computes
in float32. The two alternate in one process; ``ratio`` is the bare median over prunelit's, and
``cpu_ratio`` that of processor seconds, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from epoch import Clock, run
from setting import setting
from torch import Tensor
from torch.nn import functional as F
from torchvision.datasets import MNIST

from prunelit.training.models import FC, Conv, LeNet5

NETWORKS: dict[str, Any] = {"fc": FC, "lenet5": LeNet5, "conv": Conv}


def images(root: Path, train: bool) -> tuple[Tensor, Tensor]:
    """Return all images, normalized, and labels."""
    data = MNIST(root, train=train)
    return data.data[:, None].float().div_(255).sub_(0.1307).div_(0.3081), data.targets


class BareLoop:
    """Called once an epoch; returns the test accuracy in percent.

    Attributes:
        arithmetic: seconds of forward and backward passes of each epoch.
        steps: seconds of the optimizer of each epoch.
    """

    def __init__(self, network: torch.nn.Module, root: Path, batch_size: int) -> None:
        self.network, self.batch_size = network, batch_size
        self.train, self.tested = images(root, True), images(root, False)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=0.001, fused=True)
        self.arithmetic: list[float] = []
        self.steps: list[float] = []

    def __call__(self) -> float:
        self.network.train()
        arithmetic = steps = 0.0
        for places in torch.randperm(len(self.train[1])).split(self.batch_size):
            batch, labels = self.train[0][places], self.train[1][places]
            start = time.perf_counter()
            F.cross_entropy(self.network(batch), labels).backward()
            after = time.perf_counter()
            # Without the hooks on optimizers, by which the run beside it looks at its own network.
            type(self.optimizer).step.__wrapped__(self.optimizer)  # type: ignore[attr-defined]
            self.optimizer.zero_grad()
            arithmetic, steps = arithmetic + after - start, steps + time.perf_counter() - after
        self.arithmetic.append(arithmetic)
        self.steps.append(steps)
        return self.test()

    @torch.no_grad()
    def test(self) -> float:
        self.network.eval()
        pairs = zip(self.tested[0].split(256), self.tested[1].split(256), strict=True)
        hits = sum(int((self.network(batch).argmax(1) == labels).sum()) for batch, labels in pairs)
        return 100 * hits / len(self.tested[1])


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--data-root", type=Path, default=Path("data"), help="folder of MNIST/raw; data")
    arguments.add_argument("--model", choices=NETWORKS, default="fc")
    arguments.add_argument("--batch-size", type=int, default=64)
    precisions = ("32-true", "bf16-mixed")
    arguments.add_argument("--precision", choices=precisions, default="32-true", help="of the run")
    arguments.add_argument("--channels-last", action="store_true", help="only in the run of prunelit")
    arguments.add_argument("--repeats", type=int, default=3, help="epochs timed, after one to warm up; 3")
    given = arguments.parse_args()
    torch.manual_seed(0)
    network = NETWORKS[given.model](num_classes=10, input_shape=(1, 28, 28))
    bare = BareLoop(network, given.data_root, given.batch_size)
    clock: Any = Clock(bare)  # type: ignore[arg-type]
    top1 = run(
        [
            *("data=mnist", f"data.root={given.data_root}", "trainer=cpu", "pruner.rounds=1", "logger=none"),
            *(f"model={given.model}", f"batch_size={given.batch_size}", f"epochs={given.repeats + 1}"),
            *(f"trainer.precision={given.precision}", f"trainer.channels_last={given.channels_last}"),
        ],
        clock,
    )
    plain, plain_cpu = map(median, zip(*clock.plain_seconds[1:], strict=True))
    ours, ours_cpu = map(median, zip(*clock.seconds[1:], strict=True))
    record = {
        "benchmark": "bare_loop",
        "model": given.model,
        "precision": given.precision,
        "channels_last": given.channels_last,
        "ratio": round(plain / ours, 2),
        "cpu_ratio": round(plain_cpu / ours_cpu, 2),
        "bare_seconds": round(plain, 2),
        "arithmetic_seconds": round(median(bare.arithmetic[1:]), 2),
        "optimizer_seconds": round(median(bare.steps[1:]), 2),
        "prunelit_seconds": round(ours, 2),
        "bare_top1": round(clock.plain_top1, 2),
        "prunelit_top1": round(top1, 2),
        "batch_size": given.batch_size,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
