"""A small report for the command that repeats reports, and a call of this command."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

SMALL = """\
key: butler2022
title: A report
about: About it.
names: {mnist: digits, cifar10: digits, cifar100: digits, vgg16: fc}
sweeps:
  accuracy:
    what: Two methods.
    run: pruner=none,mag,rand compression=1 epochs=1 optimizer.lr=0.01
    seeds: 3
    epochs: {epochs: 1}
    shrinks: [images, seeds]
    page: false
  dense: {what: Trains., run: pruner=none epochs=1}
  onwards:
    what: Starts from the dense weights.
    run: pruner=snip compression=2 epochs=0
    start_from: dense
tables:
  I: {title: accuracy, sweeps: [accuracy]}
  II: {title: more, sweeps: [onwards]}
  III: {title: times, sweeps: [accuracy]}
  IV: {title: FLOPs}
  V: {title: density}
figures:
  figure 1: {title: Errors, sweep: accuracy, picture: errors, says: little.}
doubtful:
  - {table: III}
reasons:
  - {table: I, why: digits are not MNIST}
questions:
  - {asks: "How accurate?", answer: Not explained, sweep: accuracy}
"""


@dataclass(frozen=True)
class Said:
    """What a call of the program came to: its exit status and what it printed."""

    status: int
    out: str
    err: str


PROGRAM = (
    "import sys; from pathlib import Path; from prunelit.study.reproduction import description;"
    "description.FOLDER = Path('descriptions').resolve();"
    "from prunelit.reproduce import main; sys.exit(main(sys.argv[1:]))"
)


def call(folder: Path, *arguments: str) -> Said:
    """Call the program in a folder, with the descriptions of reports in its ``descriptions``."""
    command = [sys.executable, "-c", PROGRAM, *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return Said(done.returncode, done.stdout, done.stderr)
