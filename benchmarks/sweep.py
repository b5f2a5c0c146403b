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
    with tempfile.TemporaryDirectory() as folder:
        return timed(folder, *arguments)


def timed(folder: str, *arguments: str) -> float:
    """Return how long the program takes with ``arguments``, in ``folder``."""
    command = [sys.executable, "-m", "prunelit.train", *RUN, f"output_dir={folder}", *arguments]
    environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return time.perf_counter() - start


def beyond_work(runs: int, overrides: list[str]) -> float:
    """Return the median seconds of a run of a sweep beyond its own work: from one result to the next."""
    with tempfile.TemporaryDirectory() as folder:
        timed(folder, "-m", f"seed=range({runs + 1})", *overrides)
        results = sorted(Path(folder).rglob("result.json"), key=lambda path: path.stat().st_mtime_ns)
        ends = [path.stat().st_mtime_ns / 1e9 for path in results]
        works = [sum(json.loads(path.read_text())[key] or 0.0 for key in WORK) for path in results]
    return median(end - begin - work for begin, end, work in zip(ends, ends[1:], works[1:], strict=False))


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
