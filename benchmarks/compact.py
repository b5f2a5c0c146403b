"""The time of a network whose filters were pruned, before and after the empty ones are cut out.

    python benchmarks/compact.py [--model NAME] [--density D] [--batch N]

Prunes filters of an untrained network by L1 norm (a share of each layer), and times batches of CIFAR-sized
images in eval mode, the two networks in turns. ``ratio`` is the median time with zeros in place over the
median time without them.
"""

from __future__ import annotations

import argparse
import json
import time
from statistics import median

import torch
from hydra import compose, initialize_config_dir
from setting import setting

from prunelit import L1Filter, Objective, compact, prune
from prunelit.pruning.flops import count_flops
from prunelit.study.configs import CONFIGS
from prunelit.training.run.from_config import build


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--model", default="vgg16_bn", help="a choice of conf/model; vgg16_bn")
    arguments.add_argument("--density", type=float, default=0.5, help="of each layer's filters; 0.5")
    arguments.add_argument("--batch", type=int, default=64, help="images a batch; 64")
    given = arguments.parse_args()
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        node = compose("config", [f"model={given.model}"]).model
    torch.manual_seed(0)
    network = build(node, num_classes=10, input_shape=(3, 32, 32)).eval()
    images = torch.randn(given.batch, 3, 32, 32)
    objective = Objective(lambda batch: network(batch[0]).sum(), [(images, images)], (images[:1],))
    prune(network, L1Filter(), given.density, objective=objective)
    small = compact(network, images[:2]).eval()
    seconds: dict[str, list[float]] = {"zeros": [], "compact": []}
    with torch.inference_mode():
        for _ in range(8):
            for name, tried in (("zeros", network), ("compact", small)):
                start = time.perf_counter()
                tried(images)
                seconds[name].append(time.perf_counter() - start)
    zeros, cut = (median(times[1:]) for times in seconds.values())
    sizes = [sum(p.numel() for p in tried.parameters()) for tried in (network, small)]
    flops = [count_flops(tried, images[:1]).total for tried in (network, small)]
    record = {
        "benchmark": "compact",
        "ratio": round(zeros / cut, 2),
        "zeros_milliseconds": round(1000 * zeros, 1),
        "compact_milliseconds": round(1000 * cut, 1),
        "parameters": sizes,
        "flops": flops,
        "model": given.model,
        "density": given.density,
        "batch": given.batch,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
