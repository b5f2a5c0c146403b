"""Runs in processes of their own, forked from a server that has imported everything: one costs no imports.

The server has trained nothing, as autograd does not survive a fork.
"""

import functools
import gc
import itertools
import multiprocessing
import os
import pkgutil
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import torch
from hydra import compose, initialize_config_dir
from safetensors.torch import load_file
from torch import nn

from prunelit import train
from prunelit.study import command
from prunelit.study.configs import CONFIGS
from prunelit.study.record import RESULT_FIELDS, Record
from prunelit.training.module import Classifier

server = multiprocessing.get_context("forkserver")
RESULT = "prunelit.training.run.result"
LAST_CHECKPOINT = "prunelit.training.checkpoints.last_checkpoint"
TRACING = "torch.export._trace"
server.set_forkserver_preload(
    ["forked_runs", RESULT, LAST_CHECKPOINT, "safetensors.torch", "fvcore.nn", TRACING]
)

CLOCKS = (
    *("seconds", "prune_seconds", "train_seconds", "test_seconds", "peak_memory_bytes"),
    *(key for key in RESULT_FIELDS if key.startswith("latency_")),
)
SMALL = (
    *("model=mlp", "model.width=32", "model._target_=forked_runs.Noisy", "data.augment=true"),
    *("epochs=3", "optimizer=momentum", "scheduler=exponential", "scheduler.gamma=0.9", "logger=none"),
)
"""Half a second, in which random numbers are drawn, a momentum gathers and the learning rate falls."""


class Noisy(nn.Sequential):
    """A network that draws random numbers while it trains."""

    def __init__(self, num_classes: int, input_shape: tuple[int, ...], width: int, **_: object) -> None:
        inputs = int(np.prod(input_shape))
        layers = nn.Linear(inputs, width), nn.ReLU(), nn.Dropout(0.2), nn.Linear(width, num_classes)
        super().__init__(nn.Flatten(), *layers)


KINDS = {
    "start": ("pruner=snip", "compression=1"),
    "rounds": ("pruner=lottery", "pruner.share=0.5"),
    "end": ("pruner=karnin", "compression=0.5"),
}
"""A run for each moment at which there may be a pruning."""


def begin(folder: Path, *overrides: str, patch=None):
    """Start a run with its output below ``folder``; its process calls ``patch()`` before."""
    process = server.Process(target=_train, args=(folder, overrides, patch))
    process.start()
    return process


def finish(folder: Path, *overrides: str, patch=None) -> int:
    """Do the same and return the exit status."""
    process = begin(folder, *overrides, patch=patch)
    process.join()
    return process.exitcode


def _train(folder: Path, overrides: tuple[str, ...], patch) -> None:
    gc.freeze()  # what the server imported is not searched for garbage
    torch.set_num_threads(1)
    folder.mkdir(exist_ok=True)
    # What the process says: each attempt adds to it.
    said = os.open(folder / "said.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    if patch is not None:
        patch()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        cfg = compose("config", [*overrides, f"output_dir={folder / 'outputs'}"])
    sys.exit(command.call(lambda: train.run(cfg), ["train", *overrides]))


def kill_at(name: str, number: int, by: int = signal.SIGKILL, times: int = 1, whom=os.getpid) -> None:
    """Let a process, ``whom()``, be sent a signal when a function is called for the ``number``-th time."""
    home, _, function = name.rpartition(".")
    owner = pkgutil.resolve_name(home)
    real, count = getattr(owner, function), itertools.count(1)

    @functools.wraps(real)
    def called(*args, **kwargs):
        if next(count) == number:
            for _ in range(times):
                _send(by, whom())
        return real(*args, **kwargs)

    setattr(owner, function, called)


def _send(by: int, process: int) -> None:
    """Send a signal; to another process, which sends it back, however long that takes on a busy machine."""
    if process == os.getpid() or by == signal.SIGKILL:
        os.kill(process, by)
        return
    taken, came = signal.getsignal(by), []

    def noted(number: int, frame: object) -> None:
        came.append(number)
        taken(number, frame)

    signal.signal(by, noted)
    os.kill(process, by)
    while not came:
        time.sleep(0.01)
    signal.signal(by, taken)


def damage_in_the_second_epoch(damage: str, folder: Path) -> None:
    """Let something be done to the run's folder when its second epoch begins."""
    real = Classifier.on_train_epoch_start

    @functools.wraps(real)
    def start(self):
        if self.current_epoch == 1:
            DAMAGES_OF_A_FOLDER[damage](run_folder(folder))
        real(self)

    Classifier.on_train_epoch_start = start


def _put_a_file_in_its_place(run: Path) -> None:
    shutil.rmtree(run)
    run.write_text("a file")


def _put_a_folder_in_place_of_the_metrics(run: Path) -> None:
    (run / "metrics.csv").unlink(missing_ok=True)
    (run / "metrics.csv").mkdir()


DAMAGES_OF_A_FOLDER = {
    "removed": shutil.rmtree,
    "a file in its place": _put_a_file_in_its_place,
    "a folder in place of the metrics": _put_a_folder_in_place_of_the_metrics,
}


def with_handler(number: int, status: int | signal.Handlers | None, then) -> None:
    """Have a handler for a signal that exits with ``status``, or returns; then do ``then``."""

    def handler(number: int, frame: object) -> None:
        print("the handler from before", flush=True)
        if status is not None:
            sys.exit(status)

    signal.signal(number, status if isinstance(status, signal.Handlers) else handler)
    then()


def diary(path: Path, then=None) -> None:
    """Note each batch trained on and each end of a test in a file; do ``then`` first."""
    if then is not None:
        then()
    real_step, real_end = Classifier.training_step, Classifier.on_validation_epoch_end

    @functools.wraps(real_step)
    def training_step(self, batch, batch_idx):
        with path.open("a") as file:
            file.write(f"{self.current_epoch} {batch_idx}\n")
        return real_step(self, batch, batch_idx)

    def on_validation_epoch_end(self):
        with path.open("a") as file:
            file.write(f"{self.current_epoch} tested\n")
        real_end(self)

    Classifier.training_step, Classifier.on_validation_epoch_end = training_step, on_validation_epoch_end


def run_folder(folder: Path) -> Path:
    """The one run's folder."""
    (found,) = folder.glob("outputs/default/*/status.json")
    return found.parent


def findings(folder: Path) -> dict[str, object]:
    """What a complete run found, as values that can be compared bit for bit: all but times and memory."""
    run = run_folder(folder)
    found: dict[str, object] = {}
    for name in ("weights", "masks"):
        for key, tensor in load_file(run / f"{name}.safetensors").items():
            found[f"{name}/{key}"] = tensor.numpy().tobytes()
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True, map_location="cpu")
    found |= {f"best/{key}": tensor.numpy().tobytes() for key, tensor in best["state_dict"].items()}
    for name in ("metrics", "rounds", "layers"):
        lines = [line.split(",") for line in (run / f"{name}.csv").read_text().splitlines()]
        kept = [i for i, column in enumerate(lines[0]) if column not in CLOCKS]
        found[name] = [[line[i] for i in kept] for line in lines]
    details = np.load(run / "details.npz")
    found |= {f"details/{key}": (details[key].dtype.str, details[key].tobytes()) for key in details.files}
    result = Record(run).result
    found |= {f"result/{key}": value for key, value in result.items() if key not in CLOCKS}
    return found
