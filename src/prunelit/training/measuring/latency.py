"""How long networks take for a batch: medians of passes in which all of them take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from statistics import median
from typing import Any

import torch
from torch import Tensor

WARM_UP_PASSES = 3
FEWEST_PASSES = 5
MOST_PASSES = 31


@dataclass(frozen=True)
class Latency:
    """Median milliseconds of each network for a batch, and how they were measured.

    ``p95`` holds the milliseconds that 95 of 100 passes do not exceed.
    """

    milliseconds: dict[str, float]
    p95: dict[str, float]
    batch_size: int
    passes: int
    threads: int
    device: str


@torch.inference_mode()
def compare_latency(
    networks: Mapping[str, Callable[[Tensor], Any]], batch: Tensor, seconds: float = 5.0
) -> Latency:
    """Time the forward passes of several networks on the device of ``batch``, side by side.

    Each network first makes three passes that do not count. Then all of them take turns, in an order that is
    reversed after each turn, so that a change of the machine's load or clock meets all of them alike.

    Args:
        networks: modules or functions, by name; all take ``batch``.
        batch: one batch of inputs.
        seconds: no further turn starts after this time; there are at least 5 turns and at most 31.
    """
    for network in networks.values():
        for _ in range(WARM_UP_PASSES):
            network(batch)
    _wait_for(batch)
    taken: dict[str, list[float]] = {name: [] for name in networks}
    order, start, passes = list(networks), time.perf_counter(), 0
    while passes < FEWEST_PASSES or (passes < MOST_PASSES and time.perf_counter() - start < seconds):
        for name in order:
            begin = time.perf_counter()
            networks[name](batch)
            _wait_for(batch)
            taken[name].append(time.perf_counter() - begin)
        order.reverse()
        passes += 1
    milliseconds = {name: 1000 * median(times) for name, times in taken.items()}
    p95 = {name: 1000 * sorted(times)[ceil(0.95 * passes) - 1] for name, times in taken.items()}
    return Latency(milliseconds, p95, len(batch), passes, torch.get_num_threads(), batch.device.type)


@torch.inference_mode()
def seconds_of_a_pass(network: Callable[[Tensor], Any], batch: Tensor) -> float:
    """Return how long one forward pass takes, the first, which may be slower than others."""
    start = time.perf_counter()
    network(batch)
    _wait_for(batch)
    return time.perf_counter() - start


def _wait_for(batch: Tensor) -> None:
    """Wait until a GPU has finished its work."""
    if batch.device.type == "cuda":
        torch.cuda.synchronize(batch.device)
