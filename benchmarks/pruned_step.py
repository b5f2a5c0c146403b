"""A training step of a pruned VGG16-BN compared with a dense one: the cost of applying masks.

    python benchmarks/pruned_step.py [--repeats N] [--batch-size N] [--device cpu|cuda]

Both are whole steps of a Trainer on 32 x 32 images with Adam, from the start of one batch to the start of
the next. The masks are random and keep 10 %. Dense and pruned steps alternate in one process: the Pruning
callback lets go of its masks for every other step. ``ratio`` is the median time of pruned steps over that
of dense ones, ``ratio_of_neighbours`` the median of each pruned step's over the next, dense one's, and
``cpu_ratio`` that of processor seconds, which other programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from functools import partial
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback
from setting import setting
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils.data import DataLoader

from prunelit.pruning.criteria import Rand
from prunelit.training.callback import Pruning
from prunelit.training.models import VGG
from prunelit.training.module import Classifier

WARM_UP = 4


class Alternate(Callback):
    """Switches the masks off and on from step to step and times every step."""

    def __init__(self, pruning: Pruning, device: torch.device) -> None:
        self.pruning, self.device = pruning, device
        self.seconds: dict[str, list[float]] = {"pruned": [], "dense": []}
        self.cpu_seconds: dict[str, list[float]] = {"pruned": [], "dense": []}
        self.kind, self.started = "", (0.0, 0.0)
        self.masks: dict[str, Tensor] = {}

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        now, cpu = self.now()
        if batch := trainer.fit_loop.epoch_loop.batch_idx:
            self.seconds[self.kind].append(now - self.started[0])
            self.cpu_seconds[self.kind].append(cpu - self.started[1])
        holder = self.pruning._holder
        self.masks = self.masks or holder._masks
        self.kind = "dense" if batch % 2 else "pruned"
        holder._masks = self.masks if self.kind == "pruned" else {}
        self.started = self.now()

    def now(self) -> tuple[float, float]:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()


def fit(network: nn.Module, clock: Alternate, batch: tuple[Tensor, Tensor], steps: int) -> None:
    """Train ``network`` for this many steps on one batch."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if clock.device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            callbacks=[clock, clock.pruning],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        loader: DataLoader[Any] = DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]
        trainer.fit(Classifier(network, 10, partial(Adam, fused=True)), loader)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=15, help="steps of each kind; 15")
    arguments.add_argument("--batch-size", type=int, default=128, help="images a step; 128")
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = arguments.parse_args()
    device = torch.device(given.device)
    torch.manual_seed(0)
    images = torch.randn(given.batch_size, 3, 32, 32, device=device)
    labels = torch.randint(10, (given.batch_size,), device=device)
    network = VGG(num_classes=10, input_shape=(3, 32, 32), batch_norm=True)
    clock = Alternate(Pruning(Rand(), sparsity=0.9, network="network"), device)
    fit(network, clock, (images, labels), steps=2 * (given.repeats + WARM_UP) + 1)
    pruned, dense = (clock.seconds[kind][WARM_UP:] for kind in ("pruned", "dense"))
    cpu_pruned, cpu_dense = (median(clock.cpu_seconds[kind][WARM_UP:]) for kind in ("pruned", "dense"))
    record = {
        "benchmark": "pruned_step",
        "ratio": round(median(pruned) / median(dense), 4),
        "ratio_of_neighbours": round(median(p / d for p, d in zip(pruned, dense, strict=True)), 4),
        "cpu_ratio": round(cpu_pruned / cpu_dense, 4),
        "pruned_seconds": round(median(pruned), 5),
        "dense_seconds": round(median(dense), 5),
        "batch_size": given.batch_size,
        "density": round(clock.pruning.current_density, 4),
        "repeats": given.repeats,
        **setting(device.type),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
