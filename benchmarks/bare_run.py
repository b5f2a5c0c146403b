"""Seconds of a run of a sweep beyond its pruning, training and testing: the libraries alone, and prunelit.

The bare run does with Hydra, Lightning, PyTorch and fvcore what a run of a sweep needs each of them for, and
nothing else. It is a job of Hydra's with the same config, in a process of its own. A Trainer trains a network
like ``fc`` on digits, tests it after each epoch, and saves the best and the last checkpoint. The network is
exported, its FLOPs are counted, and its latency is measured. Nothing is pruned, no record is written, and
nothing is flushed to the disk. ``ratio`` is its time / prunelit's.

python benchmarks/bare_run.py
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import multiprocessing
import tempfile
import time
import warnings
from collections.abc import Iterator
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import lightning.pytorch as pl
import torch
from fvcore.nn import FlopCountAnalysis
from hydra import compose, initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.global_hydra import GlobalHydra
from hydra.core.utils import run_job
from hydra.types import HydraContext
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig
from setting import setting
from sklearn.datasets import load_digits
from sweep import beyond_work
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.study.configs import CONFIGS
from prunelit.study.identity import register_resolvers
from prunelit.study.sweep.run_in_sweep import warm_up
from prunelit.training.measuring.latency import MOST_PASSES, WARM_UP_PASSES
from prunelit.training.run.prepare import prepare

Images = tuple[Tensor, Tensor]
BATCH, EPOCHS, TEST_IMAGES, FORMS = 64, 10, 355, 3
WIDTHS = (64, 100, 100, 100, 100, 100, 10)


class Loader:
    """Yields batches of images that are in memory, in a new order each time if ``shuffles``."""

    def __init__(self, images: Tensor, labels: Tensor, batch: int, shuffles: bool) -> None:
        self.images, self.labels, self.batch, self.shuffles = images, labels, batch, shuffles

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch)

    def __iter__(self) -> Iterator[Images]:
        number = len(self.images)
        order = torch.randperm(number) if self.shuffles else torch.arange(number)
        for part in order.split(self.batch):
            yield self.images[part], self.labels[part]


class Module(pl.LightningModule):
    """Trains a network by cross-entropy; ``seconds`` are those of all epochs, up to their last batches."""

    def __init__(self) -> None:
        super().__init__()
        layers = [layer for widths in pairwise(WIDTHS) for layer in (nn.Linear(*widths), nn.ReLU())]
        self.network = nn.Sequential(nn.Flatten(), *layers[:-1])
        self.seconds = 0.0

    def training_step(self, batch: Images, batch_idx: int) -> Tensor:
        """Return the loss."""
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: Images, batch_idx: int) -> None:
        """Log the accuracy."""
        self.log("accuracy", (self.network(batch[0]).argmax(1) == batch[1]).float().mean())

    def test_step(self, batch: Images, batch_idx: int) -> None:
        """Log the accuracy."""
        self.validation_step(batch, batch_idx)

    def on_train_epoch_start(self) -> None:
        """Start the clock of the epoch."""
        self.begun = time.perf_counter()

    def on_train_batch_end(self, outputs: Any, batch: Images, batch_idx: int) -> None:
        """Add the time of the epoch after its last batch."""
        if self.trainer.is_last_batch:
            self.seconds += time.perf_counter() - self.begun

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Return Adam."""
        return torch.optim.Adam(self.parameters(), fused=True)


def bare_run(folder: Path) -> dict[str, float]:
    """Do one bare run in ``folder``; return its seconds by part, training and the final test as ``work``."""
    torch.set_num_threads(1)
    clock = [time.perf_counter()]
    digits = load_digits()
    images, labels = torch.tensor(digits.images, dtype=torch.float32), torch.tensor(digits.target)
    train = Loader(images[TEST_IMAGES:], labels[TEST_IMAGES:], BATCH, True)
    test = Loader(images[:TEST_IMAGES], labels[:TEST_IMAGES], TEST_IMAGES, False)
    clock.append(time.perf_counter())
    module = Module()
    checkpoint = ModelCheckpoint(folder, monitor="accuracy", mode="max", save_last=True)
    trainer = pl.Trainer(
        accelerator="cpu",
        max_epochs=EPOCHS,
        logger=False,
        callbacks=[checkpoint],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
    )
    trainer.fit(module, train, test)
    clock.append(time.perf_counter())
    trainer.test(module, test, verbose=False)
    clock.append(time.perf_counter())
    export_and_count(module.network)
    clock.append(time.perf_counter())
    measure_latency(module.network)
    clock.append(time.perf_counter())
    data, lightning, tested, export, latency = (end - begin for begin, end in pairwise(clock))
    parts = {"data": data, "lightning": lightning - module.seconds, "export": export, "latency": latency}
    return {**parts, "work": module.seconds + tested}


def export_and_count(network: nn.Module) -> None:
    """Export a network, and count its FLOPs."""
    torch.export.export(network, (torch.zeros(1, 8, 8),), strict=False)
    FlopCountAnalysis(network, torch.zeros(1, 8, 8)).unsupported_ops_warnings(False).total()


@torch.inference_mode()
def measure_latency(network: nn.Module) -> None:
    """Call a network as often as a run calls its dense, masked and cut network for their latencies."""
    for size in (1, 64):
        images = torch.zeros(size, 8, 8)
        for _ in range(FORMS * (WARM_UP_PASSES + MOST_PASSES)):
            network(images)


def parts_of_bare_runs(runs: int) -> dict[str, float]:
    """Return the median seconds of each part of bare runs, as Hydra's jobs; ``all`` of them but the work."""
    register_resolvers()
    warm_up(prepare)  # import everything once, as for the runs of a sweep
    torch.ones(1, requires_grad=True).sum().backward()  # before the first export, see coupling/trace.py
    export_and_count(Module().network)
    gc.collect()
    gc.freeze()
    found = []
    with tempfile.TemporaryDirectory() as folder, initialize_config_dir(str(CONFIGS), version_base="1.3"):
        for seed in range(runs):
            overrides = [f"seed={seed}", "trainer=cpu", "logger=none", f"output_dir={folder}"]
            config = compose("config", overrides, return_hydra_config=True)
            context = HydraContext(GlobalHydra.instance().config_loader(), Callbacks(config))
            receiver, sender = multiprocessing.Pipe(duplex=False)
            child = multiprocessing.get_context("fork").Process(
                target=one_job, args=(context, config, Path(folder, str(seed)), sender)
            )
            begun = time.perf_counter()
            child.start()
            parts = receiver.recv()
            child.kill()
            child.join()
            taken = time.perf_counter() - begun
            found.append({**parts, "process": taken - sum(parts.values()), "all": taken - parts["work"]})
    return {name: median(parts[name] for parts in found) for name in found[0]}


def one_job(context: HydraContext, config: DictConfig, folder: Path, sender: Connection) -> None:
    """Do a bare run as a job of Hydra's, and send its seconds by part."""
    begun = time.perf_counter()
    done = run_job(
        hydra_context=context,
        config=config,
        task_function=lambda cfg: bare_run(folder),
        job_dir_key="hydra.run.dir",
        job_subdir_key=None,
    )
    parts = done.return_value
    sender.send({**parts, "hydra": time.perf_counter() - begun - sum(parts.values())})


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=16, help="of each measurement; 16")
    arguments.add_argument("--repeats", type=int, default=3, help="pairs that are timed; 3")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    pairs = [(parts_of_bare_runs(given.runs), beyond_work(given.runs, [])) for _ in range(given.repeats)]
    parts = {name: median(bare[name] for bare, _ in pairs) for name in pairs[0][0] if name != "work"}
    record = {
        "benchmark": "bare_run",
        "ratio": round(median(bare["all"] / own for bare, own in pairs), 3),
        "bare_seconds": round(parts.pop("all"), 3),
        "of_it": {name: round(seconds, 3) for name, seconds in parts.items()},
        "prunelit_seconds": round(median(own for _, own in pairs), 3),
        "runs": given.runs,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
