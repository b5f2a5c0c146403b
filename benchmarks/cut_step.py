"""A training step of a network whose units were pruned: masked, compared with cut out.

    python benchmarks/cut_step.py [--model NAME] [--density D] [--batch-size N] [--repeats N] [--device D]

Two Trainers fit the same network on CIFAR-sized images with SGD and momentum, one after the other. Both
prune units by magnitude before the first step. ``ratio`` is the median time of a step with masks over that
of a step of the network that was cut.
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
from hydra import compose, initialize_config_dir
from lightning.pytorch.callbacks import Callback
from setting import setting
from torch import Tensor
from torch.optim import SGD
from torch.utils.data import DataLoader

from prunelit import Mag, Pruning
from prunelit.study.configs import CONFIGS
from prunelit.training.module import Classifier
from prunelit.training.run.from_config import build

WARM_UP = 3


class Clock(Callback):
    """Notes the seconds from the start of one batch to the start of the next."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.starts = device, list[float]()

    def on_train_batch_start(self, *_: Any) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.starts.append(time.perf_counter())

    @property
    def median(self) -> float:
        """The median over all steps but the first few."""
        steps = [after - before for before, after in zip(self.starts, self.starts[1:], strict=False)]
        return median(steps[WARM_UP:])


def fit(given: argparse.Namespace, batch: tuple[Tensor, Tensor], cut: bool) -> tuple[float, int]:
    """Return the seconds of a step, and the number of parameters at the end."""
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = compose("config", [f"model={given.model}"]).model
    torch.manual_seed(0)
    network = build(node, num_classes=10, input_shape=(3, 32, 32))
    clock = Clock(batch[0].device)
    options: dict[str, Any] = {"granularity": "unit", "scope": "layer", "cut": cut, "network": "network"}
    pruning = Pruning(Mag(), sparsity=1 - given.density, **options)
    with tempfile.TemporaryDirectory() as folder:
        trainer = pl.Trainer(
            accelerator="gpu" if clock.device.type == "cuda" else "cpu",
            devices=1,
            max_epochs=1,
            callbacks=[pruning, clock],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=folder,
        )
        steps: DataLoader[Any] = DataLoader([batch] * (given.repeats + WARM_UP + 1), batch_size=None)  # type: ignore[arg-type]
        trainer.fit(Classifier(network, 10, partial(SGD, lr=0.01, momentum=0.9)), steps)
    return clock.median, sum(p.numel() for p in network.parameters())


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--model", default="resnet20", help="a choice of conf/model; resnet20")
    arguments.add_argument("--density", type=float, default=0.5, help="of the units of each group; 0.5")
    arguments.add_argument("--batch-size", type=int, default=64, help="images a step; 64")
    arguments.add_argument("--repeats", type=int, default=10, help="steps of each network; 10")
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = arguments.parse_args()
    device = torch.device(given.device)
    images = torch.randn(given.batch_size, 3, 32, 32, device=device)
    batch = images, torch.randint(10, (given.batch_size,), device=device)
    (masked, whole), (cut, left) = (fit(given, batch, choice) for choice in (False, True))
    record = {
        "benchmark": "cut_step",
        "ratio": round(masked / cut, 2),
        "masked_seconds": round(masked, 4),
        "cut_seconds": round(cut, 4),
        "parameters": [whole, left],
        "model": given.model,
        "density": given.density,
        "batch_size": given.batch_size,
        "repeats": given.repeats,
        **setting(device.type),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
