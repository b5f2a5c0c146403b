"""Seconds from the command of the default run to its first training step, compared with the bare imports.

    python benchmarks/startup.py [--repeats N] [OVERRIDE ...]

Alternates two commands, each a process of its own: ``python -c 'import torch, lightning.pytorch'``, timed
from start to exit, and ``python -m prunelit.train``, timed from start to the first training step, where
it is ended: configs composed, data read, network built, pruned (the default pruner does 100 rounds) and
tested before and after. ``extra_seconds`` is the median over the pairs of the difference. The bare process
needs a second to end, which a run at its first step has not spent: ``extra_over_imports_seconds`` is
the difference to the moment when the bare imports are done.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from statistics import median

from setting import setting

IMPORTS = "import torch, lightning.pytorch"
CLOCK = "; import time; print(time.time())"

FIRST_STEP = '''
import importlib.abc, os, runpy, sys, time
from importlib.machinery import PathFinder

class AtFirstStep(importlib.abc.MetaPathFinder):
    """Ends the process, with a word on when, as soon as the run trains."""

    def find_spec(self, name, path, target=None):
        if name != "prunelit.training.module":
            return None
        spec = PathFinder.find_spec(name, path)
        execute = spec.loader.exec_module

        def execute_and_patch(module):
            execute(module)
            module.Classifier.training_step = first_step

        spec.loader.exec_module = execute_and_patch
        return spec

def first_step(*_):
    print(time.time(), file=sys.stderr, flush=True)
    os._exit(0)

sys.meta_path.insert(0, AtFirstStep())
sys.argv[0] = "prunelit.train"
runpy.run_module("prunelit.train", run_name="__main__", alter_sys=True)
'''


def seconds_to_import() -> tuple[float, float]:
    """Return when the bare imports are done and when their process has ended, since its start."""
    start = time.time()
    command = [sys.executable, "-c", IMPORTS + CLOCK]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(done.stdout) - start, time.time() - start


def seconds_to_first_step(overrides: list[str]) -> float:
    """Return how long a run takes to its first training step, the interpreter's start included."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.time()
        command = [sys.executable, "-c", FIRST_STEP, f"output_dir={folder}", *overrides]
        done = subprocess.run(
            command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        return float(done.stderr.split()[-1]) - start


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument(
        "--repeats", type=int, default=5, help="pairs that are timed, after one to warm up; 5"
    )
    arguments.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the run, as data=mnist")
    given = arguments.parse_args()
    rows = [(*seconds_to_import(), seconds_to_first_step(given.overrides)) for _ in range(given.repeats + 1)][
        1:
    ]
    imports, ends, first_steps = zip(*rows, strict=True)
    extra = [first_step - end for _, end, first_step in rows]
    record = {
        "benchmark": "startup",
        "ratio": round(median(first_step / end for _, end, first_step in rows), 3),
        "extra_seconds": round(median(extra), 2),
        "extra_seconds_each": [round(seconds, 2) for seconds in extra],
        "extra_over_imports_seconds": round(median(row[2] - row[0] for row in rows), 2),
        "first_step_seconds": round(median(first_steps), 2),
        "command_seconds": round(median(ends), 2),
        "imports_seconds": round(median(imports), 2),
        "overrides": given.overrides,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
