"""Records that hold all that the figures of a report draw."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from prunelit.study.record import Record

Weights = Mapping[str, np.ndarray]


def fill(
    run: Record, shapes: dict[str, tuple[int, ...]], classes: list[str] | None = None, rounds: int = 1
) -> None:
    """Write what the figures of a run need: about every second weight is kept."""
    random = np.random.default_rng(0)
    weights = {
        name: np.where(random.random(shape) < 0.5, random.normal(size=shape), 0).astype(np.float32)
        for name, shape in shapes.items()
    }
    save_file(weights, run.folder / "weights.safetensors")
    run.write_details(details_of(weights, classes or ["zero", "one", "two"]))
    run.write_layers([layer_of(name, values) for name, values in weights.items()])
    run.write_metrics([epoch_of(epoch) for epoch in range(rounds + 2)])
    run.write_rounds([round_of(number) for number in range(1, rounds + 1)])


def details_of(weights: Weights, classes: list[str]) -> dict[str, Any]:
    details: dict[str, Any] = {"class_names": np.array(classes), "confusion/test": np.diag([5, 6, 7])}
    details |= {"confusion/test_before": np.full((3, 3), 2), "accuracy_by_class": np.full(3, 100.0)}
    for name, values in weights.items():
        counts, edges = np.histogram(values, 64)
        details |= {f"before/{name}": counts, f"after/{name}": counts // 2, f"edges/{name}": edges}
        kept = (values != 0).reshape(*values.shape[:2], -1).sum(-1)
        details |= {f"kept_by_output/{name}": kept.sum(1), f"kept_by_input/{name}": kept.sum(0)}
    return details


def layer_of(name: str, values: np.ndarray) -> dict[str, Any]:
    return {
        "layer": name,
        "shape": "x".join(map(str, values.shape)),
        "total": values.size,
        "kept": int((values != 0).sum()),
        "density": float((values != 0).mean()),
        "flops_dense": values.size,
        "flops_sparse": 1.0,
        "score_mean": 1.0,
        "score_var": 0.0,
    }


def epoch_of(epoch: int) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "phase": "train",
        "learning_rate": 0.001,
        "density": 0.9**epoch,
        "train_loss": 2.0 / (epoch + 1),
        "train_top1": 50.0 + epoch,
        "test_loss": 2.1 / (epoch + 1),
        "test_top1": 49.0 + epoch,
        "seconds": 1.0,
    }


def round_of(number: int) -> dict[str, Any]:
    return {
        "round": number,
        "epoch": number,
        "sparsity_before": 0.1 * (number - 1),
        "sparsity_after": 0.1 * number,
        "top1_before": 50.0,
        "top1_after": 40.0,
        "last_top1": 51.0,
    }
