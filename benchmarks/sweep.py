"""Seconds of a sweep: runs side by side against one after the other, and imports paid once against for each.

``beyond_work_seconds`` are those of each run of a sweep beyond its pruning, training and testing.

python benchmarks/sweep.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from setting import setting

from prunelit.study.devices import cores

RUN = ("trainer=cpu", "logger=none")
WORK = ("prune_seconds", "train_seconds", "test_seconds")


def seconds(*arguments: str) -> float:
    """Return how long the program takes with ``arguments``, in an empty folder."""
    return timed(*arguments)[0]


def timed(*arguments: str) -> tuple[float, float]:
    """Return the same, and how many of these seconds the runs prune, train and test."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "prunelit.train", *RUN, f"output_dir={folder}", *arguments]
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True, env=environment)
        taken = time.perf_counter() - start
        results = [json.loads(path.read_text()) for path in Path(folder).rglob("result.json")]
        return taken, sum(result[key] or 0.0 for result in results for key in WORK)


def beyond_work(runs: int, overrides: list[str]) -> float:
    """Return the seconds of a run of a sweep beyond its own work, without the start of the sweep."""
    few, work_of_few = timed("-m", "seed=0,1", *overrides)
    many, work_of_many = timed("-m", f"seed=range({runs + 2})", *overrides)
    return ((many - work_of_many) - (few - work_of_few)) / runs


def side_by_side(runs: int, overrides: list[str]) -> tuple[float, float]:
    """Return the seconds of ``runs`` seeds one after the other on all cores, and of as many jobs as cores."""
    seeds = f"seed=range({runs})"
    return seconds("-m", seeds, *overrides), seconds("-m", "hydra/launcher=joblib", seeds, *overrides)


def imports_once(runs: int, overrides: list[str]) -> tuple[float, float]:
    """Return the seconds of ``runs`` commands of one run each, and of one sweep; they only prune and test."""
    short = ("epochs=0", "pruner=mag", *overrides)
    alone = sum(seconds(f"seed={seed}", *short) for seed in range(runs))
    return alone, seconds("-m", f"seed=range({runs})", *short)


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=2 * cores(), help="of a sweep; twice the cores")
    arguments.add_argument("--repeats", type=int, default=3, help="pairs that are timed; 3")
    arguments.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the runs, as data=mnist")
    given = arguments.parse_args()
    pairs = [side_by_side(given.runs, given.overrides) for _ in range(given.repeats)]
    alone = [imports_once(given.runs, given.overrides) for _ in range(given.repeats)]
    beyond = [beyond_work(given.runs, given.overrides) for _ in range(given.repeats)]
    record = {
        "benchmark": "sweep",
        "beyond_work_seconds": round(median(beyond), 3),
        "ratio": round(median(serial / parallel for serial, parallel in pairs), 3),
        "serial_seconds": round(median(serial for serial, _ in pairs), 2),
        "parallel_seconds": round(median(parallel for _, parallel in pairs), 2),
        "imports_ratio": round(median(commands / sweep for commands, sweep in alone), 3),
        "commands_seconds": round(median(commands for commands, _ in alone), 2),
        "sweep_seconds": round(median(sweep for _, sweep in alone), 2),
        "runs": given.runs,
        "overrides": given.overrides,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
