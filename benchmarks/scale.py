"""The cost of a study of 10,000 runs in addition to the runs themselves: files, bytes, seconds.

    python benchmarks/scale.py [--runs N] [--folder DIR]

One real run of the default network tells what a run leaves on the disk. Then N stub records are written by
the code that records real runs (its layers, epochs and details, but no training, and no weights, masks or
checkpoints), and the commands of a user are timed on them, each a process of its own: the sweep that asked
for all of them, which has to find that each is complete, the first time and again; and the report. Where
SLURM's daemons are installed, a cluster of one node is started too, and the sweep is submitted to it with all
jobs held.

Prints a line of JSON a step. N runs are pruners x compressions x seeds.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from prunelit.study.record import Record

ROOT = Path(__file__).resolve().parents[1]
PRUNERS, COMPRESSIONS = ("rand", "mag", "snip", "synflow"), ("0.5", "1.0", "1.5", "2.0", "2.5")
WRITERS = 8
TRAIN = (sys.executable, "-m", "prunelit.train")


def say(step: str, **values: Any) -> None:
    """Print one line of JSON."""
    rounded = {key: round(value, 3) if isinstance(value, float) else value for key, value in values.items()}
    print(json.dumps({"benchmark": "scale", "step": step, **rounded}), flush=True)


def timed(command: list[str], folder: Path, environment: dict[str, str] | None = None) -> dict[str, Any]:
    """Return the seconds of a command, its largest memory, and the first line that it printed."""
    with tempfile.TemporaryFile("w+") as told:
        start = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=told, stderr=subprocess.STDOUT
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        told.seek(0)
        text = told.read()
    if status:
        raise SystemExit(f"{' '.join(command)}: status {status}\n{text[-2000:]}")
    return {"seconds": seconds, "megabytes": used.ru_maxrss // 1024, "told": text.partition("\n")[0][:100]}


def usage(folder: Path) -> dict[str, int]:
    """Return how many files there are below a folder, and their bytes."""
    sizes = [file.stat().st_size for file in folder.rglob("*") if file.is_file()]
    return {"files": len(sizes), "bytes": sum(sizes)}


def sweep_of(num: int) -> list[str]:
    """Return the overrides that ask for ``num`` runs."""
    seeds = num // (len(PRUNERS) * len(COMPRESSIONS))
    return [
        "-m",
        f"pruner={','.join(PRUNERS)}",
        f"compression={','.join(COMPRESSIONS)}",
        f"seed=range({seeds})",
    ]


def real_run(folder: Path) -> Path:
    """Do one run with each logger; say what each kind of file takes; return the folder of the last."""
    for logger in ("tensorboard", "csv", "none"):
        timed([*TRAIN, "seed=999999", f"logger={logger}", f"name={logger}"], folder)
        (run,) = (folder / "outputs" / logger).glob("digits-*")
        kinds = {
            path.name: usage(path)["bytes"] if path.is_dir() else path.stat().st_size
            for path in run.iterdir()
        }
        say("real_run", logger=logger, **usage(run), bytes_of=kinds)
    return run


def write_stubs(study: Path, template: Path, runs: list[tuple[Path, tuple[str, ...]]]) -> None:
    """Write a complete record for each run, with the rows and arrays of a real one and other accuracies."""
    result = json.loads((template / "result.json").read_text())
    tables = {
        name: list(csv.DictReader((template / f"{name}.csv").open()))
        for name in ("metrics", "layers", "rounds")
    }
    details = dict(np.load(template / "details.npz", allow_pickle=False))

    def write(run: tuple[Path, tuple[str, ...]]) -> None:
        folder, overrides = run
        asked = dict(text.split("=") for text in overrides)
        record = Record(folder)
        record.start()
        record.write_metrics(tables["metrics"])
        record.write_layers(tables["layers"])
        record.write_rounds(tables["rounds"])
        record.write_details(details)
        compression = float(asked["compression"])
        found = {
            "pruner": asked["pruner"],
            "seed": int(asked["seed"]),
            "compression": compression,
            "sparsity": 1 - 10**-compression,
            "density": 10**-compression,
            "top1": random.gauss(90 - 5 * compression, 1),
            "config_hash": folder.name[-10:],
        }
        record.finish(result | found)

    with ThreadPoolExecutor(WRITERS) as pool:  # as many jobs as write at a time
        list(pool.map(write, runs))


def requests_of(overrides: list[str], folder: Path) -> list[tuple[Path, tuple[str, ...]]]:
    """Return the folder and the overrides of each run, composed as the sweeper composes them."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.types import RunMode

    from prunelit.study.configs import CONFIGS
    from prunelit.study.sweep.composer import Composer

    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        config = loader.load_configuration("config", overrides[1:], RunMode.MULTIRUN)
        (requests,) = BasicSweeper.split_arguments(
            OverridesParser.create().parse_overrides(overrides[1:]), None
        )
        start = time.perf_counter()
        runs = Composer(loader, config, folder / "folders.json").runs(
            [tuple(request) for request in requests]
        )
        say("compose", runs=len(runs), seconds=time.perf_counter() - start)
    return [(folder / run.folder, run.overrides) for run in runs]


@contextmanager
def cluster(folder: Path) -> Iterator[Any]:
    """Start a SLURM cluster that holds many jobs; None where it is not installed."""
    sys.path.insert(0, str(ROOT / "tests"))
    from slurm_cluster import PROGRAMS, Cluster, find

    if not all(map(find, PROGRAMS)):
        yield None
        return
    started = Cluster(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()


def submit(folder: Path, overrides: list[str]) -> None:
    """Submit the sweep to a cluster of one node with every job held, ask for its queue, and cancel it."""
    with cluster(folder / "cluster") as started:
        if started is None:
            say("submit", skipped="no SLURM here")
            return
        held = "+hydra.launcher.additional_parameters.hold=true"
        command = [
            *TRAIN,
            "hydra/launcher=submitit_slurm",
            "sweep.wait=false",
            held,
            "name=submitted",
            *overrides,
        ]
        first = timed(command, folder, started.environment)
        ask = timed(["squeue", "--array", "--states=all", "--format=%i|%T|%r"], folder, started.environment)
        again = timed(command, folder, started.environment)
        say("submit", jobs=len(started.states()), **first)
        say("squeue", **ask)
        say("submit_again", **again)
        study = folder / "outputs" / "submitted"
        for part in (".submitit", ".sweep"):
            say("submit", below=part, **usage(study / part))


def measure(step: str, action: Callable[[], Any]) -> None:
    """Say the seconds that an action takes."""
    start = time.perf_counter()
    action()
    say(step, seconds=time.perf_counter() - start)


def main() -> None:
    """Do all steps in a folder that is removed at the end."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    parser.add_argument(
        "--skip", nargs="*", default=(), choices=("submit", "report"), help="steps to leave out"
    )
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(dir=given.folder, prefix="prunelit-scale-") as place:
        folder, overrides = Path(place), sweep_of(given.runs)
        template = real_run(folder)
        runs = requests_of(overrides, folder)
        study = folder / "outputs" / "default"
        measure("write", lambda: write_stubs(study, template, runs))
        say("written", runs=len(runs), **usage(study))
        for step in ("skip_first", "skip_again"):
            say(step, **timed([*TRAIN, *overrides], folder))
        if "submit" not in given.skip:
            submit(folder, overrides)
        if "report" not in given.skip:
            say("report", **timed([sys.executable, "-m", "prunelit.report", str(study)], folder))
            say("report", below="report", **usage(study / "report"))


if __name__ == "__main__":
    main()
