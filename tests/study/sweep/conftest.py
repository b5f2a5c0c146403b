"""A network that fails as it is told, and the program called in an empty folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from prunelit import train

FAULTY = """
import os, signal, time
from pathlib import Path
from torch import nn

class Faulty(nn.Module):
    '''Does what it is told once it trains.'''

    def __init__(self, num_classes, input_shape, fault):
        super().__init__()
        self.linear, self.fault = nn.Linear(64, num_classes), fault

    def forward(self, images):
        if self.training:
            if self.fault == "raise":
                raise ZeroDivisionError("no luck")
            if self.fault == "open":
                open("vocabulary.txt")
            if self.fault == "once" and not Path("tried").exists():
                Path("tried").touch()
                raise ZeroDivisionError("no luck at first")
            if self.fault == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fault == "hang":
                Path("hanging").touch()
                time.sleep(3600)
            if self.fault == "wait":
                Path("writing").write_text(str(os.getpid()))
                Path("writing").replace("waiting")  # whoever sees it can read it
                time.sleep(1)
        return self.linear(images.flatten(1))
"""
QUICK = ("epochs=1", "logger=none", "pruner=mag")


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, but for ``mine/``, configs that have ``model=faulty``."""
    (tmp_path / "faulty.py").write_text(FAULTY)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    config = "name: faulty\n_target_: faulty.Faulty\nfault: none\n"
    (tmp_path / "mine" / "model" / "faulty.yaml").write_text(config)
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
        process = subprocess.Popen(
            [sys.executable, "-m", "prunelit.train", "--config-dir", "mine", *QUICK, *arguments],
            env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
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
