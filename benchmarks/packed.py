"""Seconds of a sweep whose runs train together, against the same runs one after the other and side by side.

python benchmarks/packed.py --runs 24 data=mnist data.root=DIR epochs=2
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from statistics import median

from setting import setting

RUN = ("trainer=cpu", "logger=none", "sweep.keep_checkpoints=false")
LAUNCHERS = ("plain", "joblib", "packed")
DIGITS = ("data.size=28", "epochs=20")
"""Digits as large as those of MNIST, 460 steps of 64 images in each run."""


def seconds(launcher: str, overrides: list[str]) -> tuple[float, float]:
    """Return the seconds of a sweep by the clock, and of all its processes on a core."""
    with tempfile.TemporaryDirectory() as folder:
        sweep = ["-m", f"hydra/launcher={launcher}", *RUN, f"output_dir={folder}", *overrides]
        environment = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
        start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-m", "prunelit.train", *sweep]
        subprocess.run(command, check=True, capture_output=True, env=environment)
        taken, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
        return taken, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--runs", type=int, default=24, help="seeds; 24")
    arguments.add_argument("--repeats", type=int, default=1, help="times that each sweep is timed; 1")
    arguments.add_argument("overrides", nargs="*", metavar="OVERRIDE", help="of the runs, as data=mnist")
    given = arguments.parse_args()
    overrides = [f"seed=range({given.runs})", *(given.overrides or DIGITS)]
    taken = [{name: seconds(name, overrides) for name in LAUNCHERS} for _ in range(given.repeats)]
    record = {
        "benchmark": "packed",
        "ratio": round(median(turn["plain"][0] / turn["packed"][0] for turn in taken), 3),
        "joblib_ratio": round(median(turn["joblib"][0] / turn["packed"][0] for turn in taken), 3),
        "cpu_ratio": round(median(turn["plain"][1] / turn["packed"][1] for turn in taken), 3),
        **{f"{name}_seconds": round(median(turn[name][0] for turn in taken), 2) for name in LAUNCHERS},
        "runs": given.runs,
        "overrides": given.overrides or list(DIGITS),
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
