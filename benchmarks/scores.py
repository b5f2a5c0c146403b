"""Scores of SynFlow for VGG16-BN: matrix products that write scores, compared with autograd's convolutions.

    python benchmarks/scores.py [--repeats N]

Both ways compute the same float64 scores of the 14,714,688 weights for one input of 3 x 32 x 32; the largest
relative difference is printed too. ``ratio`` is autograd's least time over that of the products, with the two
ways taking turns. ``cpu_ratio`` is the same for processor time, which another process disturbs less.
"""

from __future__ import annotations

import argparse
import json
import time

import torch
from setting import setting

from prunelit.pruning.call import Call
from prunelit.pruning.flow_scores import _write, absolute_values, flow_scores
from prunelit.pruning.masks import Scores
from prunelit.pruning.parameters import Selection
from prunelit.pruning.scored_layers import ScoredLayers
from prunelit.training.models import VGG


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=5, help="of each way; 5")
    given = arguments.parse_args()
    network = VGG(num_classes=10, input_shape=(3, 32, 32)).eval()
    parameters, example = Selection().of(network), Call.of(torch.ones(1, 3, 32, 32))
    memory = {name: torch.empty(p.shape, dtype=torch.float64) for name, p in parameters.items()}

    def by_autograd(found: Scores) -> Scores:
        scores = absolute_values(parameters, found)
        _write(ScoredLayers(scores, stand_in=False), network, parameters, example, biases=False)
        return scores

    def by_products(found: Scores) -> Scores:
        return flow_scores(network, parameters, example, False, found)

    expected, found = by_autograd(dict(memory)), by_products({})
    difference = max(float(((found[n] - s) / s).abs().max()) for n, s in expected.items())
    wall: dict[str, list[float]] = {"autograd": [], "products": []}
    cpu: dict[str, list[float]] = {"autograd": [], "products": []}
    for _ in range(given.repeats):
        for name, way in (("autograd", by_autograd), ("products", by_products)):
            start, used = time.perf_counter(), time.process_time()
            way(found)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - used)
    record = {
        "benchmark": "scores",
        "ratio": round(min(wall["autograd"]) / min(wall["products"]), 2),
        "cpu_ratio": round(min(cpu["autograd"]) / min(cpu["products"]), 2),
        "autograd_seconds": round(min(wall["autograd"]), 4),
        "products_seconds": round(min(wall["products"]), 4),
        "largest_relative_difference": difference,
        "repeats": given.repeats,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
