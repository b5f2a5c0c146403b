"""Runs by the command line in the current folder, and what they leave on disk."""

import csv
import json
from contextlib import contextmanager
from pathlib import Path

from prunelit.training.module import Classifier

QUICK = ("epochs=1", "logger=none")
SMALLEST = ("epochs=0", "logger=none", "pruner=rand")


@contextmanager
def power_cut(monkeypatch, batch: int = 3):
    """Let the third epoch break off at a batch."""
    step = Classifier.training_step

    def broken(self, images_and_labels, batch_idx):
        if self.current_epoch == 2 and batch_idx == batch:
            raise RuntimeError("power cut")
        return step(self, images_and_labels, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Classifier, "training_step", broken)
        yield


def folders(pattern: str = "*") -> list[Path]:
    return sorted(path.parent for path in Path("outputs").glob(f"{pattern}/{pattern}/result.json"))


def only_folder() -> Path:
    (folder,) = folders()
    return folder


def result() -> dict:
    return json.loads((only_folder() / "result.json").read_text())


def csv_rows(name: str) -> list[dict]:
    with (only_folder() / name).open() as file:
        return list(csv.DictReader(file))
