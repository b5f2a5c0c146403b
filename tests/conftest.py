"""What several tests share: where real data sets lie, and one thread a test process."""

import os
from pathlib import Path

import pytest
import torch


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
