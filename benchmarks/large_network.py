"""Time and memory to score and mask a stack of linear layers in bf16 with very many weights.

    python benchmarks/large_network.py [--criterion mag|synflow] [--weights N] [--density D]

``ratio`` is the peak memory of the process, less what it takes with nothing but the packages loaded, over the
bytes of the parameters and of the scores. Linux only: the peak is read from ``/proc/self/status``.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import torch
from setting import setting
from torch import nn

from prunelit.pruning.criteria import Mag, SynFlow
from prunelit.pruning.masks import count_kept
from prunelit.pruning.objective import Objective
from prunelit.pruning.rounds import prune

LAYERS = 16


def memory(key: str) -> float:
    """Return a figure of this process in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 2**20


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--criterion", choices=("mag", "synflow"), default="mag")
    arguments.add_argument("--weights", type=int, default=2**27, help="how many there are; 2**27")
    arguments.add_argument("--density", type=float, default=0.1)
    given = arguments.parse_args()
    width = math.isqrt(given.weights // LAYERS)
    before = memory("VmRSS")
    torch.manual_seed(0)
    layers = [nn.Linear(width, width, bias=False, dtype=torch.bfloat16) for _ in range(LAYERS)]
    network = nn.Sequential(*layers)
    objective = Objective(inputs=(torch.ones(1, width, dtype=torch.bfloat16),))
    criterion = Mag() if given.criterion == "mag" else SynFlow()
    start = time.perf_counter()
    outcome = prune(network, criterion, given.density, objective=objective)
    seconds = time.perf_counter() - start
    used = memory("VmHWM") - before
    parameters = sum(p.nbytes for p in network.parameters()) / 2**30
    scores = sum(score.nbytes for score in outcome.scores.values()) / 2**30
    record = {
        "benchmark": "large_network",
        "criterion": given.criterion,
        "ratio": round(used / (parameters + scores), 3),
        "peak_gib": round(used, 3),
        "parameters_gib": round(parameters, 3),
        "scores_gib": round(scores, 3),
        "seconds": round(seconds, 2),
        "weights": LAYERS * width**2,
        "kept": count_kept(outcome.masks),
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
