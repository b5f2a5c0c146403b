"""A run's share of the machine: devices that no other run uses, and some of the cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from prunelit.study.devices import cores
from prunelit.study.sweep.leases import gpus_wanted, lease_folder, leased
from prunelit.study.sweep.state import Sweep
from prunelit.turns import current


@contextmanager
def machine_share(cfg: DictConfig, sweep: Sweep | None) -> Iterator[int | None]:
    """Reserve the devices of the run of ``cfg`` while other runs are in progress; wait until they are free.

    ``CUDA_VISIBLE_DEVICES`` names the leased GPUs inside the block, before CUDA is touched. Yields the number
    of threads for all ranks of the run together, or None if the sweep does not decide it: there is one job at
    a time, or the user has set ``OMP_NUM_THREADS``.
    """
    if sweep is None or not sweep.shared or current() is not None:  # a group reserves for all of its runs
        yield None
        return
    names = {uuid: name for name, uuid in sweep.gpus.items()}
    wanted = gpus_wanted(cfg.trainer, len(names))
    if wanted:
        devices = leased(list(names), wanted, lease_folder(), cfg.sweep.runs_per_gpu)
        with devices as uuids, _environment("CUDA_VISIBLE_DEVICES", ",".join(names[uuid] for uuid in uuids)):
            yield _threads(sweep.jobs)
    else:
        with leased([f"cpu-{slot}" for slot in range(sweep.jobs)], 1, sweep.folder / "slots"):
            yield _threads(sweep.jobs)


def _threads(sharers: int) -> int | None:
    return None if "OMP_NUM_THREADS" in os.environ else max(1, cores() // sharers)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before
