"""What SNIP keeps of the VGG16 in the published code of Mikler and Plaszczyk (2019), at 99 % sparsity.

    python benchmarks/published_vgg16.py MNIST_ROOT [--seeds N]

The network of that code is torchvision's ``vgg16_bn`` with a classifier 512-300-10 of PyTorch's own
initialisation (https://github.com/gahaalt/SNIP-pruning-method-analysis). Five poolings leave nothing of an
image of 28 x 28, so that the images have to be larger; here they are padded to 32 x 32. All parameters
compete, and scores are computed on one batch of 128 images, with three kinds of statistics in BatchNorm: of
a new network (mean 0, variance 1), the running statistics after one batch in train mode, and of the batch
itself. The report states a range of 99.6 to 99.9 % for the sparsity of the five layers of 2,359,296 weights,
and that almost all biases are removed, except in the last layer. MNIST_ROOT contains MNIST/raw/*-ubyte. The
last line is the table as JSON.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from published_snip import root_and_seeds, standardised
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import vgg16_bn

from prunelit.pruning.criteria import SNIP
from prunelit.pruning.masks import make_masks
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection

LARGE = 2_359_296
"""Weights of each of the five largest layers."""
IMAGES = 128


@dataclass(frozen=True)
class Row:
    """Sparsity in percent of the large layers, and the biases of which anything is kept, of one network."""

    statistics: str
    seed: int
    least: float
    greatest: float
    biases: tuple[str, ...]


def published_network() -> nn.Sequential:
    """Return the network of the published code."""
    vgg = vgg16_bn()
    first = nn.Conv2d(1, 64, kernel_size=3, padding=1)
    classifier = (nn.Linear(512, 300), nn.ReLU(), nn.BatchNorm1d(300), nn.Linear(300, 10))
    return nn.Sequential(first, *list(vgg.features)[1:], nn.Flatten(), *classifier)


def row(statistics: str, seed: int, batch: tuple[Tensor, Tensor]) -> Row:
    """Prune a new network to 99 % and return what is kept of it."""
    torch.manual_seed(seed)
    network = published_network().train()
    if statistics == "running":
        with torch.no_grad():
            network(batch[0])
    network.train(statistics == "batch")
    scores = SNIP().scores(
        network, Selection(bias=True, norm=True).of(network), Objective.of_classifier(network, [batch])
    )
    masks = make_masks(scores, 0.01)
    large = [100 * (1 - float(m.float().mean())) for m in masks.values() if m.numel() == LARGE]
    biases = tuple(name for name, m in masks.items() if name.endswith("bias") and bool(m.any()))
    return Row(statistics, seed, min(large), max(large), biases)


def table(root: Path, seeds: int = 3) -> Iterator[Row]:
    """Yield a row for each of the statistics and each seed."""
    for seed in range(seeds):
        ((pixels, labels),) = standardised(root, 1, IMAGES, seed)
        padded = functional.pad(pixels, (2, 2, 2, 2), value=float(pixels.min()))
        for statistics in ("new", "running", "batch"):
            yield row(statistics, seed, (padded, labels))


def main() -> None:
    root, seeds = root_and_seeds(__doc__)
    try:
        published_network().eval()(torch.zeros(1, 1, 28, 28))
    except RuntimeError as error:
        print(f"28 x 28: {error}")
    print("statistics  seed   large layers, %  biases of which anything is kept")
    rows = []
    for found in table(root, seeds):
        rows.append(found)
        span, biases = f"{found.least:.2f} to {found.greatest:.2f}", ", ".join(found.biases)
        print(f"{found.statistics:10}  {found.seed:4}  {span:>15}  {biases}", flush=True)
    print(json.dumps({"seeds": seeds, "rows": [asdict(found) for found in rows]}))


if __name__ == "__main__":
    main()
