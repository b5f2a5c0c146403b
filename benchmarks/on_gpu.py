"""What only a GPU can do in a few minutes, most valuable first, each result on disk as soon as it is there.

    python benchmarks/on_gpu.py --minutes 14 --out DIR [--images cifar10=DIR ...] [key=value ...]

The steps, in order: the tests that need a GPU; the benchmarks that the documentation quotes for a GPU;
table II of Butler on CIFAR-10, then on CIFAR-100; the LeNet-5 runs of Mikler, stacked so that many train
in one process; Shi at scale 0.1. A step that does not end in time is interrupted, which saves its runs. The
same command with the same DIR leaves out what is complete and goes on with the rest. DIR/steps.json says
what became of each step, and DIR/NAME.txt holds what it printed; the runs and the comparisons with published
numbers lie in DIR/outputs/reproduce.

``--rehearse`` does the same steps on the CPU with tiny settings: digits, a small network, one epoch.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
PATIENCE = 30.0
"""Seconds that an interrupted step has to save its runs."""
COMPARING = 60.0
"""Seconds kept for the comparison that follows a step's runs."""


@dataclass(frozen=True)
class Step:
    """One command, and the report that it repeats (empty: none)."""

    name: str
    command: tuple[str, ...]
    report: str = ""


@dataclass
class Done:
    """What became of a step: done, failed (with its exit status), interrupted or not begun."""

    state: str
    seconds: float = 0.0
    status: int | None = None


def steps(rehearse: bool, images: list[str], overrides: list[str]) -> list[Step]:
    """Return all steps, the most valuable first."""
    gpu, together = [*overrides, "trainer=gpu"], "hydra/launcher=packed"
    sweep, at_once = [*gpu, "hydra/launcher=joblib"], "sweep.runs_per_gpu"
    named = [text for folder in images for text in ("--images", folder)]
    if rehearse:
        small = ["data=digits", "model=fc", "epochs=1", "trainer=cpu", *overrides]
        one, ten = ("pruner=mag", "compression=0.5"), ("pruner=mag", "sparsity=0.9")
        return [
            _test("tests/gpu", "-k", "nothing_at_all"),
            _benchmark("selection", "--repeats", "1", "--rounds", "2", "--device", "cpu"),
            _report("butler_cifar10", "butler2022", "--only", "cifar10", *small, *one),
            _report("mikler_lenet5", "mikler2019", "--only", "figure 2", *small, *ten, together),
        ]
    return [
        _test("tests/gpu"),
        _benchmark("pruned_step", "--repeats", "200"),
        _benchmark("selection", "--repeats", "1"),
        _report("butler_cifar10", "butler2022", "--only", "cifar10", *named, *sweep, f"{at_once}=8"),
        _report("butler_cifar100", "butler2022", "--only", "cifar100", *named, *sweep, f"{at_once}=8"),
        _report("mikler_lenet5", "mikler2019", "--only", "figure 2", *gpu, together),
        _report("shi", "shi2022", "--scale", "0.1", *named, *sweep, f"{at_once}=4"),
    ]


def _test(*arguments: str) -> Step:
    return Step("gpu_tests", (PYTHON, "-m", "pytest", "-n0", "-q", "-m", "gpu", *arguments))


def _benchmark(name: str, *arguments: str) -> Step:
    return Step(f"benchmark_{name}", (PYTHON, str(ROOT / "benchmarks" / f"{name}.py"), *arguments))


def _report(name: str, report: str, *arguments: str) -> Step:
    return Step(name, (PYTHON, "-m", "prunelit.reproduce", report, *arguments), report)


def do(step: Step, out: Path, seconds: float) -> Done:
    """Run a step for at most so many seconds, its output in a file."""
    begun = time.monotonic()
    place = ROOT if step.name == "gpu_tests" else out
    with (out / f"{step.name}.txt").open("a") as file:
        process = subprocess.Popen(
            step.command, cwd=place, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            _interrupt(process)
            return Done("interrupted", time.monotonic() - begun)
    # pytest's 5: no test was chosen.
    state = "done" if status in (0, 5) else "failed"
    return Done(state, time.monotonic() - begun, status)


def _interrupt(process: subprocess.Popen[bytes]) -> None:
    """Ask a step to save and end; kill it if it does not."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        os.killpg(process.pid, number)
        try:
            process.wait(PATIENCE)
            return
        except subprocess.TimeoutExpired:
            continue


def compare(step: Step, out: Path, seconds: float) -> None:
    """Compare what an interrupted step has run with the published numbers."""
    again = Step(f"{step.name}_compared", (*step.command, "--compare"))
    do(again, out, seconds)


def main() -> None:
    """Do the steps in the time that is given."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--minutes", type=float, default=14, help="in all; 14")
    arguments.add_argument("--out", type=Path, required=True, help="where results go; the same to go on")
    arguments.add_argument("--images", metavar="DATA=DIR", action="append", default=[], help="of reproduce")
    arguments.add_argument("--rehearse", action="store_true", help="tiny settings on the CPU")
    arguments.add_argument("overrides", metavar="key=value", nargs="*", help="of every run")
    given = arguments.parse_intermixed_args()
    end = time.monotonic() + 60 * given.minutes
    out = given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    memory = out / "steps.json"
    known = json.loads(memory.read_text()) if memory.is_file() else {}
    for step in steps(given.rehearse, given.images, given.overrides):
        left = end - time.monotonic() - PATIENCE
        if known.get(step.name, {}).get("state") == "done":
            print(f"{step.name}: done already", flush=True)
            continue
        if left <= 0:
            known.setdefault(step.name, asdict(Done("not begun")))
            continue
        found = do(step, out, left - COMPARING if step.report and left > 2 * COMPARING else left)
        known[step.name] = asdict(found)
        memory.write_text(json.dumps(known, indent=1) + "\n")
        print(f"{step.name}: {found.state} after {found.seconds:.0f} s", flush=True)
        if step.report and found.state == "interrupted":
            compare(step, out, COMPARING)
    memory.write_text(json.dumps(known, indent=1) + "\n")
    print(json.dumps({"benchmark": "on_gpu", "steps": {name: step["state"] for name, step in known.items()}}))


if __name__ == "__main__":
    main()
