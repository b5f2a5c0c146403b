"""The scripts that the published figures come from still run, at sizes too small for figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
SMALL = {
    "bare_run": ("--runs", "2", "--repeats", "1"),
    "compact": ("--model", "resnet20", "--batch", "2"),
    "cut_step": ("--repeats", "1", "--batch-size", "2", "--device", "cpu"),
    "large_network": ("--weights", "4096", "--criterion", "synflow"),
    "lightning_overhead": ("--steps", "10", "--repeats", "1"),
    "one_round": ("--repeats", "1"),
    "packed": ("--runs", "2", "epochs=1", "model=mlp"),
    "pruned_step": ("--repeats", "1", "--batch-size", "2", "--device", "cpu"),
    "rates": (),
    "scale": ("--runs", "20", "--skip", "submit"),
    "scores": ("--repeats", "1"),
    "selection": ("--repeats", "1", "--rounds", "2", "--device", "cpu"),
    "startup": ("--repeats", "1"),
    "synflow_rounds": ("--rounds", "2", "--repeats", "1"),
    "structured": ("--networks", "resnet18", "--size", "32", "--latency"),
    "sweep": ("--runs", "2", "--repeats", "1", "epochs=0"),
    "thinet": ("--images", "4", "--positions", "2", "--literal", "4"),
}
ON_IMAGES = {
    "bare_loop": ("--repeats", "1"),
    "epoch": ("--repeats", "1", "--logger", "none"),
    "exact": ("--images", "8", "--check", "2", "--threads", "1"),
}
TESTED_ELSEWHERE = {"flops_table", "on_gpu", "published_vgg16", "snip_counts"}
IMPORTED = {"__main__", "published_snip", "setting"}


def last_line(name: str, arguments: tuple[str, ...]) -> dict:
    command = [sys.executable, FOLDER / f"{name}.py", *arguments]
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
    told = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1])


def test_every_benchmark_is_tried() -> None:
    assert {path.stem for path in FOLDER.glob("*.py")} == {*SMALL, *ON_IMAGES, *TESTED_ELSEWHERE, *IMPORTED}


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_a_benchmark_prints_its_record_last(name: str) -> None:
    assert last_line(name, SMALL[name])["benchmark"] == name


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_IMAGES)
def test_a_benchmark_on_images_prints_its_record_last(name: str, real_data: Path) -> None:
    assert last_line(name, (*ON_IMAGES[name], "--data-root", str(real_data)))["benchmark"] == name


@pytest.mark.slow
def test_the_steps_for_a_gpu_are_rehearsed_and_gone_on_with(tmp_path: Path) -> None:
    arguments = ("--rehearse", "--minutes", "15", "--out", str(tmp_path))
    steps = last_line("on_gpu", arguments)["steps"]
    assert steps == dict.fromkeys(steps, "done")
    assert set(steps) == {"gpu_tests", "benchmark_selection", "butler_cifar10", "mikler_lenet5"}
    runs = list((tmp_path / "outputs" / "reproduce").glob("*/*/*/result.json"))
    assert len(runs) == 3 + 10
    before = {run: run.stat().st_mtime_ns for run in runs}
    assert last_line("on_gpu", arguments)["steps"] == steps
    assert {run: run.stat().st_mtime_ns for run in runs} == before
