"""A study of many runs in memory, as reading their records would give it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd

from prunelit.study.report.records.study import COLUMNS, Study

METHODS = (
    *("erk", "exact", "fisher", "gmp", "grasp", "iterative"),
    *("lamp", "mag", "rand", "snip", "synflow", "taylor"),
)
AMOUNTS = (0.5, 1.0, 1.5, 2.0, 2.5, 3.0)
LAYERS = tuple(f"features.{number}.weight" for number in range(14))


def large_study(networks: int = 7, seeds: int = 2, epochs: int = 3) -> Study:
    """Return a study of 12 methods and 6 amounts on each of ``networks``, with ``seeds`` seeds each."""
    random = np.random.default_rng(0)
    cells = list(itertools.product(range(networks), METHODS, AMOUNTS, range(seeds)))
    names = [f"run{number:04}" for number in range(len(cells))]
    runs = pd.DataFrame(index=pd.Index(names, name="run"), columns=list(COLUMNS))
    for number, (network, method, amount, seed) in enumerate(cells):
        density = 10.0**-amount
        known = {
            "pruner": method,
            "label": method,
            "model": f"vgg{network}",
            "data": "cifar10",
            "seed": seed,
            "compression": amount,
            "asked_compression": amount,
            "asked": f"compression {amount:g}",
            "asked_density": density,
            "density": density,
            "effective_density": 0.9 * density,
            "kept": 1e6 * density,
            "flops_sparse": 1e8 * density ** random.uniform(0.7, 0.9),
            "top1": 90 - 20 * amount + random.normal(),
            "prune_seconds": 1.0,
            "train_seconds": 9.0,
            "test_seconds": 0.5,
            "status": "complete",
            "folder": Path("nowhere") / names[number],
        }
        for key, value in known.items():
            runs.iat[number, runs.columns.get_loc(key)] = value
    texts = [
        "pruner",
        "label",
        "model",
        "data",
        "asked",
        "status",
        "folder",
        "error",
        "collapsed",
        "versions",
    ]
    texts += ["device", "precision", "git", "config_hash"]
    numbers = [key for key in runs if key not in texts]
    runs[numbers] = runs[numbers].apply(pd.to_numeric).astype(float)
    runs["seed"] = runs["seed"].astype("Int64")
    runs["seconds"] = runs[["prune_seconds", "train_seconds", "test_seconds"]].sum(axis=1)
    runs["collapsed"] = [[] for _ in names]
    steps = pd.DataFrame(list(itertools.product(names, range(epochs))), columns=["run", "epoch"])
    steps = steps.assign(
        train_loss=1.0, test_loss=1.1, train_top1=50.0 + steps["epoch"], test_top1=45.0, density=0.1
    )
    layers = pd.DataFrame(list(itertools.product(names, LAYERS)), columns=["run", "layer"])
    layers = layers.assign(shape="64x64x3x3", total=36864, kept=3686, density=0.1)
    rounds = pd.DataFrame({"run": names, "round": 1, "epoch": 0, "sparsity_after": 0.9})
    return Study(runs, steps, rounds, layers, [], {name: {} for name in names})
