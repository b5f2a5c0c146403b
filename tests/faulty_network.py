"""A network that fails while it trains, as ``model=faulty``, and the program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

_NETWORK = """
import os, signal, time
from pathlib import Path
from torch import nn

RANK = "@rank@"

class Faulty(nn.Module):
    '''Fails in the way that ``fault`` names, once it trains.'''

    def __init__(self, num_classes, input_shape, fault):
        super().__init__()
        self.linear, self.fault = nn.Linear(64, num_classes), fault

    def forward(self, images):
        if self.training and (not RANK or os.environ.get("LOCAL_RANK") == RANK):
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


def write_faulty_network(folder: Path, rank: str = "") -> None:
    """Write the network and its config to ``folder``; with ``rank``, only this local rank fails."""
    (folder / "faulty.py").write_text(_NETWORK.replace("@rank@", rank))
    (folder / "mine" / "model").mkdir(parents=True)
    config = "name: faulty\n_target_: faulty.Faulty\nfault: none\n"
    (folder / "mine" / "model" / "faulty.yaml").write_text(config)


def start_program(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start ``python -m prunelit.train`` in ``folder``, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "prunelit.train", "--config-dir", "mine", *arguments],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("PYTEST")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
