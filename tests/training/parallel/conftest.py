"""Run a function in two processes that are two ranks, over gloo on the CPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from omegaconf import OmegaConf

from prunelit.training.parallel import rank_processes


@pytest.fixture
def on_two_ranks() -> Callable[[Callable[[], Any]], Any]:
    """Call a function in two processes and return what rank 0's call returns."""
    # Tests compute on one thread, which a fork does not lack.
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    devices = OmegaConf.create({"accelerator": "cpu", "devices": 2})
    return lambda job: rank_processes.run(job, devices, may_fork=True)
