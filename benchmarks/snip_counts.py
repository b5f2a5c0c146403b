"""What SNIP keeps in each tensor of two LeNets, compared with figures 6 and 7 of Mikler and Plaszczyk (2019).

    python benchmarks/snip_counts.py MNIST_ROOT [--seeds N]

S. Mikler and E. Plaszczyk, SNIP: single-shot network pruning based on connection sensivity, ICLR
reproducibility challenge. Untrained LeNet-300-100 and LeNet-5 with PyTorch's own initialisation;
weights and biases compete; scores on the whole standardised MNIST training set; means over the seeds
0, 1, 2. One network differs from the next: over 36 others the kept share of LeNet-5's fc1.bias had a
standard deviation of 5 points, and conv1.weight at 95 % one of 7. MNIST_ROOT holds
MNIST/raw/*-ubyte. The last line is the table as JSON: the largest difference, in points of a
tensor's share, among tensors of 100 parameters or more.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from published_snip import root_and_seeds, standardised
from torch import Tensor

from prunelit.pruning.criteria import SNIP
from prunelit.pruning.masks import Scores, make_masks
from prunelit.pruning.objective import Objective
from prunelit.pruning.parameters import Selection
from prunelit.training.models import LeNet5, LeNet300100

PUBLISHED = Path(__file__).with_name("published_snip_counts.csv")
NETWORKS = {"lenet300100": LeNet300100, "lenet5": LeNet5}


@dataclass(frozen=True)
class Cell:
    """Kept shares of one tensor in percent, and how far they are apart in points."""

    model: str
    sparsity: float
    parameter: str
    total: int
    published: float
    ours: float

    @property
    def points(self) -> float:
        """Ours less theirs."""
        return self.ours - self.published


def snip_scores(model: str, batches: list[tuple[Tensor, Tensor]], seed: int) -> Scores:
    """Scores of an untrained network's weights and biases."""
    torch.manual_seed(seed)
    network = NETWORKS[model](num_classes=10, input_shape=(1, 28, 28))
    parameters = Selection(bias=True).of(network)
    return SNIP().scores(network, parameters, Objective.of_classifier(network, batches))


def table(root: Path, seeds: int = 3) -> Iterator[Cell]:
    """Every published cell and the mean over seeds."""
    batches = standardised(root, None, 1000)
    for model in NETWORKS:
        scores = [snip_scores(model, batches, seed) for seed in range(seeds)]
        for row in csv.DictReader(PUBLISHED.open()):
            if row["model"] != model:
                continue
            masks = [make_masks(s, 1 - float(row["sparsity"])) for s in scores]
            kept = sum(int(m[row["parameter"]].sum()) for m in masks) / seeds
            total = int(row["total"])
            yield Cell(
                model=model,
                sparsity=float(row["sparsity"]),
                parameter=row["parameter"],
                total=total,
                published=100 * int(row["kept"]) / total,
                ours=100 * kept / total,
            )


def main() -> None:
    root, seeds = root_and_seeds(__doc__)
    cells = []
    print("model        sparsity parameter        total published %  ours %  points")
    for cell in table(root, seeds):
        cells.append(cell)
        print(
            f"{cell.model:12} {cell.sparsity:8} {cell.parameter:14} {cell.total:7} "
            f"{cell.published:11.1f} {cell.ours:7.1f} {cell.points:+7.1f}"
        )
    largest = max(abs(cell.points) for cell in cells if cell.total >= 100)
    print(json.dumps({"largest_points": largest, "seeds": seeds, "cells": [asdict(c) for c in cells]}))


if __name__ == "__main__":
    main()
