"""A network that fails as it is told, and the program called in an empty folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from faulty_network import start_program, write_faulty_network
from prunelit import train

QUICK = ("epochs=1", "batch_size=512", "logger=none", "pruner=mag")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, but for ``mine/``, configs that have ``model=faulty``."""
    write_faulty_network(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def cli(study: Path, monkeypatch, capfd) -> Callable[..., tuple[int, str, list[str]]]:
    """Call the program; return its exit status, output and error lines, those of its runs too."""

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["train.py", "--config-dir", "mine", *QUICK, *arguments])
        with pytest.raises(SystemExit) as end:
            train.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, [line for line in err.splitlines() if "Warning" not in line]

    return call


@pytest.fixture
def start(study: Path):
    """Start the program in a session of its own."""
    running = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = start_program(study, *QUICK, *arguments)
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()


def statuses() -> dict[str, str]:
    """The status of each run in the current folder, by the override that ends its list."""
    found = {}
    for path in Path().glob("outputs/*/*/status.json"):
        overrides = (path.parent / ".hydra" / "overrides.yaml").read_text().split("- ")
        found[overrides[-1].strip()] = json.loads(path.read_text())["status"]
    return found
