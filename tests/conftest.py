"""What several tests share: where real data sets lie, and one thread a test process."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest
import torch

from prunelit import train


def pytest_configure(config: pytest.Config) -> None:
    """Let tests send Ctrl-C, and hide the GPUs of this machine unless their tests are requested: tests
    compare bits of the CPU.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as for programs in the background of a script
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if "gpu" not in config.option.markexpr.replace("not gpu", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """Exempt imported objects from garbage collection: there are half a million of them to search."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    """Let the interpreter clear the exempted objects: libraries report what remains at its end."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    """Tests run one process a core; more threads would only make them wait for each other."""
    torch.set_num_threads(1)


@pytest.fixture
def real_data() -> Path:
    """Folder that holds ``MNIST/raw/*-ubyte`` and ``cifar10/{train,test}/<class>/*.png``."""
    folder = os.environ.get("PRUNELIT_TEST_DATA")
    if not folder:
        pytest.skip("PRUNELIT_TEST_DATA does not name a folder with MNIST and cifar10")
    return Path(folder)


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Call the program in an empty folder; return its exit status, output and error lines."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
        with pytest.raises(SystemExit) as end:
            train.main()
        out, err = capsys.readouterr()
        lines = [line for line in err.splitlines() if line and "Warning" not in line]
        return int(end.value.code or 0), out, lines

    return call
