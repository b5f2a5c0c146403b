"""What each way around Lightning's overhead in ``prunelit/training/lightning_overhead.py`` saves.

    python benchmarks/lightning_overhead.py [--steps N] [--repeats N]

A linear layer trains on constant batches on the CPU with one thread, once with all of them and then with each
one left out. The fits take turns. Each number is a difference of the smallest processor time per step, in
microseconds; processor time is disturbed less than wall time by other programs on the machine.
"""

from __future__ import annotations

import argparse
import inspect
import json
import logging
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler
from setting import setting
from torch import nn
from torch.nn import functional as F

from prunelit.training.lightning_overhead import (
    Checkpoint,
    NoProfiler,
    QuickHookNames,
    with_signature,
)

NVML = "PYTORCH_NVML_BASED_CUDA_CHECK"
PARTS = ("checkpoint hooks and state key", "profiler", "signature", "hook names", "NVML check")


class Batches:
    """Yields the same batch ``steps`` times."""

    def __init__(self, steps: int) -> None:
        self.steps, self.batch = steps, (torch.randn(8, 16), torch.zeros(8, dtype=torch.int64))

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Any:
        return iter([self.batch] * self.steps)


class Plain(pl.LightningModule):
    """A linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 4)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self.layer(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.Adam(self.parameters(), fused=True)


def module_without(left_out: str) -> pl.LightningModule:
    bases = (Plain,) if left_out == "hook names" else (QuickHookNames, Plain)

    def training_step(self: Any, batch: Any, batch_idx: int) -> torch.Tensor:
        return F.cross_entropy(self.layer(batch[0]), batch[1])

    step = training_step if left_out == "signature" else with_signature(training_step)
    assert inspect.signature(step).parameters
    return type("Timed", bases, {"training_step": step})()


def microseconds(left_out: str, steps: int, folder: Path) -> float:
    """Return the time of a step of a fit without one of the ways."""
    kind = ModelCheckpoint if left_out == PARTS[0] else Checkpoint
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=1,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[kind(folder, monitor=None, save_top_k=0)],
        profiler=PassThroughProfiler() if left_out == "profiler" else NoProfiler(),
    )
    if left_out == "NVML check":
        os.environ[NVML] = "1"
    else:
        os.environ.pop(NVML, None)
    start = time.process_time()
    trainer.fit(module_without(left_out), Batches(steps))
    return 1e6 * (time.process_time() - start) / steps


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    found: dict[str, list[float]] = {part: [] for part in ("nothing", *PARTS)}
    with tempfile.TemporaryDirectory() as folder:
        microseconds("nothing", 50, Path(folder))  # imports and caches
        for _ in range(given.repeats):
            for part, times in found.items():
                times.append(microseconds(part, given.steps, Path(folder)))
    saved = {
        part: round(min(times) - min(found["nothing"]), 1)
        for part, times in found.items()
        if part != "nothing"
    }
    step = round(min(found["nothing"]), 1)
    print(json.dumps({"benchmark": "lightning_overhead", "step": step, "saved": saved, **setting()}))


if __name__ == "__main__":
    main()
