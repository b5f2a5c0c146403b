"""Seconds in which ThiNet chooses the channels of VGG16's widest layers, compared with the algorithm as
published.

    python benchmarks/thinet.py [--images N] [--positions N] [--literal CHANNELS]

One line of JSON. Of each layer that takes 512 channels: the time for its Gram matrix, from the inputs
that the images give it, and for the order in which all 512 channels go. ``literal`` computes the summed
square afresh for every candidate, on the same samples, for the first CHANNELS channels of such a layer;
``ratio`` is its time over that of the Gram matrix and the incremental order of the same channels. The
network is untrained and the images are random: neither changes the amount of work.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from importlib.metadata import version

import torch
from torch import Tensor

from prunelit.pruning.contributions import removal_order, sampled_contributions
from prunelit.training.models import VGG


def inputs_of_wide_layers(images: Tensor) -> dict[str, tuple[torch.nn.Module, Tensor]]:
    """Return each layer of VGG16 that takes 512 channels, with what it takes."""
    torch.manual_seed(0)
    network = VGG(10, (3, 32, 32), depth=16).eval()
    wide = {}
    x = images
    with torch.no_grad():
        for name, layer in network.named_children():
            weight = layer._parameters.get("weight")
            if weight is not None and weight.shape[1] == 512:
                wide[name] = (layer, x)
            x = layer(x)
    return wide


def literal_order(rows: Tensor) -> list[int]:
    """Return the order of removal with a fresh sum for every candidate."""
    removed: list[int] = []
    while len(removed) < rows.shape[1]:
        best, least = -1, float("inf")
        for channel in range(rows.shape[1]):
            if channel not in removed:
                value = float(rows[:, [*removed, channel]].sum(1).square().sum())
                if value < least:
                    best, least = channel, value
        removed.append(best)
    return removed


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--images", type=int, default=100, help="that are passed through; 100")
    arguments.add_argument("--positions", type=int, default=10, help="outputs drawn from each image; 10")
    arguments.add_argument("--literal", type=int, default=96, help="channels of the literal algorithm; 96")
    given = arguments.parse_args()
    wide = inputs_of_wide_layers(torch.rand(given.images, 3, 32, 32))
    seconds = {}
    for name, (layer, inputs) in wide.items():
        start = time.perf_counter()
        rows = sampled_contributions(layer, inputs, 512, given.positions)
        gram = rows.T @ rows
        middle = time.perf_counter()
        removal_order(gram)
        seconds[name] = {"gram": middle - start, "order": time.perf_counter() - middle}
    few = rows[:, : given.literal]
    start = time.perf_counter()
    quick = removal_order(few.T @ few)
    middle = time.perf_counter()
    slow = literal_order(few)
    end = time.perf_counter()
    record = {
        "benchmark": "thinet",
        "ratio": round((end - middle) / (middle - start), 1),
        "same_order": quick == slow,
        "literal_seconds": round(end - middle, 3),
        "incremental_seconds": round(middle - start, 5),
        "literal_channels": given.literal,
        "layers_of_512": {
            name: {k: round(v, 4) for k, v in times.items()} for name, times in seconds.items()
        },
        "all_layers_seconds": round(sum(sum(times.values()) for times in seconds.values()), 3),
        "samples": given.images * given.positions,
        "device": f"{platform.machine()} cpu",
        "cores": os.cpu_count(),
        "versions": {"torch": version("torch")},
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
