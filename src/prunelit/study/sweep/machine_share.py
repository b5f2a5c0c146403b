"""A run's share of the machine: devices that no other run has, and some of the cores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from omegaconf import DictConfig

from prunelit.study.devices import cores
from prunelit.study.sweep.leases import gpus_wanted, lease_folder, leased
from prunelit.study.sweep.state import Sweep


@contextmanager
def machine_share(cfg: DictConfig, sweep: Sweep | None) -> Iterator[int | None]:
    """Hold what the run of ``cfg`` needs while others run beside it; wait until it is free.

    ``CUDA_VISIBLE_DEVICES`` names the leased GPUs inside the block, before CUDA is touched. Yields how many
    threads the run is to use, all its ranks together; None where that is not for a sweep to say: there is
    one job at a time, or the user has set ``OMP_NUM_THREADS``.
    """
    if sweep is None or not sweep.shared:
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
