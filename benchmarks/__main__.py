"""Run the benchmarks, print one table and write ``benchmarks/results.json``.

    python -m benchmarks [NAME ...] [--data-root DIR]

Each runs in a process of its own. Its record, with versions and the load of the machine, goes into the file;
the table shows its ratio. Names choose some of them; the records of the others stay in the file. Those that
train on MNIST run only with ``--data-root``, the folder that holds ``MNIST/raw``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
RESULTS = FOLDER / "results.json"
RUNS: dict[str, tuple[str, ...]] = {
    "rates": ("rates.py",),
    "one_round": ("one_round.py",),
    "scores": ("scores.py",),
    "synflow_rounds": ("synflow_rounds.py",),
    "selection": ("selection.py",),
    "selection_of_100_million": ("selection.py", "--scores", "100000000", "--repeats", "2"),
    "large_network_mag": ("large_network.py", "--criterion", "mag"),
    "large_network_synflow": ("large_network.py", "--criterion", "synflow"),
    "pruned_step": ("pruned_step.py", "--repeats", "20"),
    "compact": ("compact.py",),
    "structured": ("structured.py", "--networks", "resnet18,mobilenet_v2"),
    "cut_step": ("cut_step.py",),
    "packed": ("packed.py",),
    "sweep": ("sweep.py", "--repeats", "1"),
    "bare_run": ("bare_run.py",),
    "startup": ("startup.py", "--repeats", "3"),
}
ON_MNIST: dict[str, tuple[str, ...]] = {
    "epoch": ("epoch.py",),
    "bare_loop_fc": ("bare_loop.py", "--model", "fc"),
    "bare_loop_lenet5": ("bare_loop.py", "--model", "lenet5", "--batch-size", "128"),
    "bare_loop_lenet5_bf16": (
        *("bare_loop.py", "--model", "lenet5", "--batch-size", "128"),
        *("--precision", "bf16-mixed", "--channels-last"),
    ),
    "bare_loop_conv": ("bare_loop.py", "--model", "conv", "--repeats", "1"),
}


def record_of(command: tuple[str, ...]) -> dict[str, Any]:
    """Run one benchmark and return its record, with the date."""
    script = FOLDER / command[0]
    done = subprocess.run([sys.executable, str(script), *command[1:]], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"command": " ".join(command), "date": datetime.now(UTC).isoformat(timespec="minutes"), **record}


def main() -> None:
    """Run the chosen benchmarks."""
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("names", nargs="*", metavar="NAME", help=", ".join([*RUNS, *ON_MNIST]))
    arguments.add_argument("--data-root", type=Path, help="folder of MNIST/raw")
    given = arguments.parse_args()
    runs = dict(RUNS)
    if given.data_root:
        root = ("--data-root", str(given.data_root.resolve()))
        runs |= {name: (*command, *root) for name, command in ON_MNIST.items()}
    chosen = given.names or list(runs)
    if unknown := [name for name in chosen if name not in runs]:
        arguments.error(f"{', '.join(unknown)}: must be of {', '.join(runs)}")
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in chosen:
        results[name] = record_of(runs[name])
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        shown = {key: results[name].get(key) for key in ("ratio", "cpu_ratio", "load")}
        print(
            f"{name:24}", *(f"{key} {value}" for key, value in shown.items() if value is not None), flush=True
        )


if __name__ == "__main__":
    main()
