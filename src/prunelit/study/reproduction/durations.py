"""How long sweeps take on this machine: from their complete runs, or from one measured epoch of each."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prunelit.durable import write_atomically
from prunelit.study.duration import duration
from prunelit.study.reproduction.description import Sweep
from prunelit.study.reproduction.requests import Command

SHARE = 0.01
"""The share of a sweep's training images that the measured epoch uses."""
BESIDE = 3.0
"""Seconds of a run in addition to its training and testing."""
PARTS_OF_A_RUN = ("prune_seconds", "train_seconds", "test_seconds")
"""Keys of a result with the duration of the parts of a run."""


@dataclass(frozen=True)
class Pace:
    """Seconds of an epoch over all training images, and of testing; None where they could not be measured."""

    epoch: float | None
    test: float = 0.0


class Paces:
    """Measures an epoch of each sweep, and saves its duration to a file.

    Args:
        memory: the file with the measured durations.
    """

    def __init__(self, memory: Path) -> None:
        self.memory = memory
        self._alike: dict[str, Pace] = {}
        try:
            self.known: dict[str, Any] = json.loads(memory.read_text())
        except (OSError, ValueError):
            self.known = {}

    def of(self, sweep: str) -> Pace:
        """Return the measured pace of a sweep, by the name that was passed to :meth:`measure`."""
        return Pace(*self.known.get(sweep, [None, 0.0]))

    def measure(self, sweep: str, command: Command) -> None:
        """Measure an epoch of a sweep, unless it is known; equal trainings are only measured once."""
        if sweep in self.known:
            return
        key = _key(command)
        pace = self._alike[key] if key in self._alike else measured(command)
        self._alike[key] = pace
        self.known[sweep] = [pace.epoch, pace.test]
        self.memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self.memory, json.dumps(self.known, indent=1) + "\n")


def seconds_of_runs(folders: Iterable[Path]) -> float | None:
    """Return the mean seconds of the complete runs in folders; None if no run is complete."""
    found = []
    for folder in folders:
        try:
            result = json.loads((folder / "result.json").read_text())
            found.append(sum(float(result[key] or 0) for key in PARTS_OF_A_RUN))
        except (OSError, ValueError, TypeError, KeyError):
            continue  # damaged, or of a version that did not record them
    return sum(found) / len(found) + BESIDE if found else None


def measured(command: Command) -> Pace:
    """Train one run of a command for two short epochs, of which the second counts, and test it."""
    overrides = [text for text in command.runs[0].overrides if text.partition("=")[0].lstrip("+") not in SET]
    with tempfile.TemporaryDirectory() as folder:
        short = ["pruner=none", "epochs=2", "pre_epochs=0", f"+trainer.limit_train_batches={SHARE}"]
        own = [f"output_dir={folder}", "name=epoch", "logger=none"]
        program = [sys.executable, "-m", "prunelit.train"]
        done = subprocess.run([*program, *overrides, *short, *own], capture_output=True, check=False)
        results = list(Path(folder).glob("epoch/*/result.json"))
        if done.returncode or not results:
            return Pace(None)
        rows = list(csv.DictReader((results[0].parent / "metrics.csv").open()))
        test = json.loads(results[0].read_text())["test_seconds"]
    return Pace(float(rows[-1]["seconds"]) / SHARE, float(test))


SET = (
    *("pruner", "epochs", "pre_epochs", "compression", "sparsity", "checkpoint", "name", "output_dir"),
    *("logger", "trainer.limit_train_batches", "trainer.limit_test_batches"),
    *("pruner.criterion", "pruner.name", "pruner.threshold", "pruner.train_mode"),
)
"""Keys that the measured run sets itself or does not need."""


def _key(command: Command) -> str:
    """Return the settings on which the time of an epoch depends."""
    texts = command.runs[0].overrides
    kept = [text for text in texts if text.partition("=")[0].lstrip("+") not in (*SET, "seed")]
    return " ".join(sorted(text for text in kept if not text.startswith("sweep.")))


def seconds_of(sweep: Sweep, scale: float, pace: Pace, runs: int) -> float | None:
    """Estimate the seconds that runs of a sweep take one after the other; scoring is not counted."""
    if pace.epoch is None:
        return None
    given = dict(text.lstrip("+").split("=", 1) for text in sweep.overrides(scale) if "=" in text)
    epochs = sum(int(given.get(key, sweep.epochs.get(key, 0))) for key in ("epochs", "pre_epochs"))
    if sweep.mean_epochs:
        epochs = round(sweep.mean_epochs * (scale if "epochs" in sweep.shrinks else 1.0))
    images = scale if scale < 1 and "images" in sweep.shrinks else 1.0
    return runs * (epochs * (images * pace.epoch + pace.test) + pace.test + BESIDE)


def in_words(seconds: Sequence[float | None]) -> str:
    """Return a duration in seconds as text, in suitable units."""
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds):
        return "not measured" if not known else f"more than {duration(sum(known))}"
    return f"about {duration(sum(known))}" if sum(known) else "–"
