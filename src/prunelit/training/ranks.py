"""Several processes for one run: which of them writes, and how Lightning starts the others."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from hydra.core.hydra_config import HydraConfig

VARIABLES = ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def is_first() -> bool:
    """Whether this process is the one that writes the record: rank 0, or the only one."""
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK", "SLURM_PROCID"))


@contextmanager
def one_run() -> Iterator[None]:
    """Let Lightning start other ranks for this run alone, and leave nothing of them to the next.

    Lightning starts a rank by repeating this program's command line, which in a sweep would start
    the sweep again: inside the block the command line is that of the one run. Afterwards the process
    group is gone and the variables that mark a rank are as before.
    """
    argv, before = sys.argv, {name: os.environ.get(name) for name in VARIABLES}
    if HydraConfig.initialized():
        sys.argv = [argv[0], *HydraConfig.get().overrides.task]
    try:
        yield
    finally:
        sys.argv = argv
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
