"""Rounds of SynFlow on VGG16-BN: the highest scores only marked, compared with all scores computed.

    python benchmarks/synflow_rounds.py [--rounds N] [--repeats N]

Both prune the 14,714,688 weights to density 0.1 from the same weights, and must keep the same ones: the
number that differ is printed. ``ratio`` is the least time with all scores computed in float64 over that of
prunelit, with the two ways taking turns. ``cpu_ratio`` is the same for processor time, which another process
disturbs less. ``peak_gib`` is the most memory that prunelit's first pruning took beyond the network (Linux).
"""

from __future__ import annotations

import argparse
import copy
import json
import time
from pathlib import Path
from typing import Any

import torch
from setting import setting

from prunelit.pruning.criteria import SynFlow
from prunelit.pruning.masks import Masks
from prunelit.pruning.objective import Objective
from prunelit.pruning.plan import Plan
from prunelit.pruning.rounds import prune
from prunelit.training.models import VGG


class AllScores(SynFlow):
    """Computes all scores in every round."""

    def keep_highest(self, *arguments: Any) -> tuple[Masks, int]:
        return arguments[-1], 0


def memory(key: str) -> float:
    """Return a figure of this process in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--rounds", type=int, default=20)
    arguments.add_argument("--repeats", type=int, default=2, help="of each way; 2")
    given = arguments.parse_args()
    torch.manual_seed(0)
    network = VGG(num_classes=10, input_shape=(3, 32, 32), batch_norm=True)
    objective = Objective(inputs=(torch.ones(1, 3, 32, 32),))
    ways = {"marked": SynFlow(), "all_scores": AllScores()}
    wall: dict[str, list[float]] = {name: [] for name in ways}
    cpu: dict[str, list[float]] = {name: [] for name in ways}
    masks: dict[str, Masks] = {}
    peak = 0.0
    for _ in range(given.repeats):
        for name, criterion in ways.items():
            pruned = copy.deepcopy(network)
            before = memory("VmRSS")
            start, used = time.perf_counter(), time.process_time()
            outcome = prune(pruned, criterion, 0.1, plan=Plan(rounds=given.rounds), objective=objective)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - used)
            peak = peak or memory("VmHWM") - before
            masks[name] = outcome.masks
            del outcome, pruned
    differing = sum(int((mask != masks["all_scores"][n]).sum()) for n, mask in masks["marked"].items())
    record = {
        "benchmark": "synflow_rounds",
        "ratio": round(min(wall["all_scores"]) / min(wall["marked"]), 2),
        "cpu_ratio": round(min(cpu["all_scores"]) / min(cpu["marked"]), 2),
        "seconds_a_round": round(min(wall["marked"]) / given.rounds, 4),
        "cpu_seconds_a_round": round(min(cpu["marked"]) / given.rounds, 4),
        "differing_masks": differing,
        "peak_gib": round(peak, 3),
        "rounds": given.rounds,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
