"""Seconds of ``exact`` on LeNet-5: the loss without each of 61,706 parameters, on MNIST training images.

    python benchmarks/exact.py --data-root DIR [--images 1000] [--threads N] [--check 20]

DIR holds ``MNIST/raw``. Beside the time, ``worst_error`` is the largest difference from removing a weight
and running the whole network in float64, over ``--check`` random weights a layer.
"""

from __future__ import annotations

import argparse
import copy
import json
import platform
import time

import torch
from torchvision.datasets import MNIST

from prunelit.pruning.ablation import without
from prunelit.pruning.criteria import Exact
from prunelit.pruning.masks import Scores
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.pruning.rounds import prune
from prunelit.training.models import LeNet5


@torch.no_grad()
def worst_error(
    network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, scores: Scores, check: int
) -> float:
    """Return the largest difference between scores and those of whole float64 networks."""
    network, images = copy.deepcopy(network).double(), images.double()

    def loss() -> float:
        return float(torch.nn.functional.cross_entropy(network(images), labels))

    whole, worst = loss(), 0.0
    for name, parameter in Selection(bias=True).of(network).items():
        for index in torch.randperm(parameter.numel())[:check].tolist():
            with without(parameter, index):
                worst = max(worst, abs(abs(loss() - whole) - float(scores[name].flatten()[index])))
    return worst


def main() -> None:
    """Measure and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--data-root", required=True)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--check", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    data = MNIST(options.data_root)
    images = ((data.data[: options.images, None].float() / 255) - 0.1307) / 0.3081
    labels = data.targets[: options.images]
    torch.manual_seed(0)
    network = LeNet5(10, (1, 28, 28)).eval()
    batches = list(zip(images.split(256), labels.split(256), strict=True))
    start, cpu = time.perf_counter(), time.process_time()
    objective = Objective.of_classifier(network, batches)
    scores = prune(network, Exact(), 1.0, selection=Selection(bias=True), objective=objective).scores
    line = {
        "benchmark": "exact",
        "model": "lenet5",
        "parameters": sum(score.numel() for score in scores.values()),
        "images": options.images,
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "threads": options.threads,
        "worst_error": worst_error(network, images, labels, scores, options.check),
        "median_score": float(torch.cat([score.flatten() for score in scores.values()]).median()),
        "torch": torch.__version__,
        "processor": platform.processor() or platform.machine(),
    }
    print(json.dumps(line))


if __name__ == "__main__":
    main()
