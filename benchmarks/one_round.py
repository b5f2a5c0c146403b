"""Seconds of one round of pruning VGG16-BN, and an estimate of what its bytes and its arithmetic need.

    python benchmarks/one_round.py [--repeats N]

For each criterion, ``seconds`` is the median time of a round, ``cpu_seconds`` the median processor time of
all threads, and ``bound`` an estimate of the least time on one core: the bytes at the rates of reading and of
writing, and the arithmetic at its own rate, all measured in the same process. ``share`` is
``bound / cpu_seconds``.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from statistics import median

import torch
from rates import rates
from setting import setting

from prunelit.pruning.criteria import SNIP, GraSP, Mag, SynFlow
from prunelit.pruning.criteria.criterion import Criterion
from prunelit.pruning.objective import Objective
from prunelit.pruning.rounds import prune
from prunelit.training.models import VGG

IMAGES = 100
WEIGHTS = 14_715_584
MULTIPLY_ADDS = 313_200_000
"""Of the convolutions for one image."""


@dataclass(frozen=True)
class Work:
    """What a round needs.

    Attributes:
        read: bytes that are read for each weight.
        written: bytes that are written for each weight.
        passes: how often the convolutions are computed; a backward pass counts twice.
        images: how many go through the network.
        rate: the rate of the arithmetic.
    """

    read: int
    written: int
    passes: int = 0
    images: int = IMAGES
    rate: str = "convolution_gflop_s"

    def bound(self, measured: dict[str, float]) -> float:
        """Return the least seconds on one core."""
        memory = self.read / measured["read_gb_s"] + self.written / measured["write_gb_s"]
        flops = 2 * MULTIPLY_ADDS * self.passes * self.images
        return WEIGHTS * memory / 1e9 + flops / measured[self.rate] / 1e9


# Selection reads scores, in float64 for SynFlow and in float32 otherwise, and writes masks of one byte. Masks
# are applied to weights, which are read and written. Scores are computed from weights, and written.
MASKS_READ, MASKS_WRITTEN = 4 + 1 + 4, 1 + 4
WORKS: dict[str, tuple[type[Criterion], Work]] = {
    "mag": (Mag, Work(4 + MASKS_READ, 4 + MASKS_WRITTEN)),
    "snip": (SNIP, Work(3 * 4 + MASKS_READ, 2 * 4 + MASKS_WRITTEN, passes=3)),
    "grasp": (GraSP, Work(6 * 4 + MASKS_READ, 3 * 4 + MASKS_WRITTEN, passes=9)),
    "synflow": (
        SynFlow,
        Work(4 + 3 * 8 + 8 + 1 + 4, 8 + 8 + MASKS_WRITTEN, passes=3, images=1, rate="float64_gflop_s"),
    ),
}


def round_seconds(
    criterion: type[Criterion], batches: list[tuple[torch.Tensor, torch.Tensor]]
) -> tuple[float, float]:
    """Return the seconds of one round by the clock, and of all threads on a core."""
    torch.manual_seed(0)
    network = VGG(num_classes=10, input_shape=(3, 32, 32), batch_norm=True)
    objective = Objective.of_classifier(network, batches)
    start, used = time.perf_counter(), time.process_time()
    prune(network, criterion(), 0.1, objective=objective)
    return time.perf_counter() - start, time.process_time() - used


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=5, help="of each criterion; 5")
    given = arguments.parse_args()
    threads = torch.get_num_threads()
    measured = rates()
    torch.set_num_threads(threads)
    batches = [(torch.randn(IMAGES, 3, 32, 32), torch.randint(10, (IMAGES,)))]
    found = {}
    for name, (criterion, work) in WORKS.items():
        turns = [round_seconds(criterion, batches) for _ in range(given.repeats + 1)][1:]
        cpu, bound = median(turn[1] for turn in turns), work.bound(measured)
        found[name] = {
            "seconds": round(median(turn[0] for turn in turns), 4),
            "cpu_seconds": round(cpu, 4),
            "bound": round(bound, 4),
            "share": round(bound / cpu, 2),
        }
    record = {"benchmark": "one_round", **found, "repeats": given.repeats, "rates": measured, **setting()}
    print(json.dumps(record))


if __name__ == "__main__":
    main()
