"""The result of a run: the rows, numbers and arrays that its record holds."""

from __future__ import annotations

import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from prunelit.notice import warn
from prunelit.pruning.flops import Flops, count_flops
from prunelit.pruning.masks import (
    Masks,
    collapsed_layers,
    count_all,
    count_kept,
    full_masks,
    layer_densities,
)
from prunelit.pruning.parameters import Selection
from prunelit.pruning.paths import effective_density
from prunelit.training import checkpoints
from prunelit.training.callback import Pruning
from prunelit.training.checkpoints.mask_files import as_bits
from prunelit.training.measuring.evaluation import accuracy_by_class
from prunelit.training.measuring.histograms import kept_connections
from prunelit.training.measuring.measurements import Measurements
from prunelit.training.module import Classifier
from prunelit.training.run import machine
from prunelit.training.run.cut_network import cut_result
from prunelit.training.run.parts import Parts
from prunelit.training.scoring.batch_transfer import transferred

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class RunResult:
    """What a run found.

    Attributes:
        result: the part of ``result.json`` that was measured.
        metrics: rows of ``metrics.csv``.
        rounds: rows of ``rounds.csv``.
        thresholds: rows of ``thresholds.csv``; empty unless the run was given a list of thresholds.
        layers: rows of ``layers.csv``.
        details: the arrays of ``details.npz``.
        masks: the final masks, of the whole network.
        weights: the final state dict of the network.
        cut: which parts of the whole network ``weights`` are, for ``Narrowing.from_state``; None: all.
    """

    result: dict[str, Any]
    metrics: Rows
    rounds: Rows
    thresholds: Rows
    layers: Rows
    details: dict[str, Any]
    masks: Masks
    weights: dict[str, Tensor]
    cut: dict[str, Any] | None = None

    @property
    def rows_and_arrays(self) -> dict[str, Any]:
        """What the record keeps in tables and in ``details.npz``."""
        names = ("metrics", "rounds", "thresholds", "layers", "details")
        return {name: getattr(self, name) for name in names}

    def save_tensors(self, folder: Path, bits: bool = False) -> None:
        """Write ``masks.safetensors``, with a byte for each weight or a bit, and ``weights.safetensors``."""
        masks = as_bits(self.masks) if bits else (self.masks,)
        checkpoints.save_tensors(folder / "masks.safetensors", *masks)
        checkpoints.save_tensors(folder / "weights.safetensors", self.weights)


def test_and_count(run: Parts) -> RunResult:
    """Count and test the network of a run that was fitted; what cannot be had is null, with a warning."""
    pruning, network, module, attempt = run.pruning, run.network, run.module, run.measured.attempt
    weights, cut = network.state_dict(), pruning.cut.state() if pruning else None
    with pruning.cut.whole(network) if pruning else nullcontext():
        masks, counted, layers = count(run)
    result = {
        **counted,
        **test_result(run.trainer, module, run.measured, counted["density"]),
        "rounds": pruning.num_rounds if pruning else 0,
        "prune_seconds": pruning.seconds if pruning else 0.0,
        "latency_predicted": pruning.latency_predicted if pruning else None,
        **machine.environment(run.trainer),
    }
    arrays = attempt("details", lambda: details(module, masks, run.measured, run.data.class_names))
    seen = run.measured
    return RunResult(
        result=result,
        metrics=seen.epochs.rows,
        rounds=seen.prunings.rounds,
        thresholds=seen.scan.rows,
        layers=layers,
        details=arrays or {"class_names": run.data.class_names},
        masks=masks,
        weights=weights,
        cut=cut,
    )


def count(run: Parts) -> tuple[Masks, dict[str, Any], Rows]:
    """Return the final masks, the part of the result that follows from them, and the rows of the layers."""
    pruning, network, attempt = run.pruning, run.network, run.measured.attempt
    masks = final_masks(pruning, network)
    flops = attempt("FLOPs", lambda: count_flops(network, example_for(run)))
    if flops is not None and flops.uncounted:
        warn(f"FLOPs exclude {', '.join(flops.uncounted)}, which prunelit does not count")
    effective = attempt("effective density", lambda: effective_density(network, masks, example_for(run)))
    counted = count_result(masks, flops, effective)
    example = attempt("the cut network", lambda: example_for(run)) if pruning else None
    layers = layer_rows(network, masks, pruning.score_moments if pruning else {}, flops)
    return masks, {**counted, **cut_result(network, masks, example, attempt)}, layers


def example_for(run: Parts) -> Tensor:
    """Return one image as the network takes it: on its device, and of its precision."""
    images: Tensor = transferred(run.trainer, run.module, run.data.scoring_batches(None, 1, 1)[0])[0]
    return images


def final_masks(pruning: Pruning | None, network: nn.Module) -> Masks:
    """Return the masks of the run; the dense baseline keeps everything.

    Where pruned weights may grow back, those that are not 0 in the end are kept.
    """
    if pruning is None:
        return full_masks(Selection().of(network))
    if pruning.retraining.masked_gradient:
        return pruning.masks
    return {name: p.detach() != 0 for name, p in pruning.selection.of(network).items()}


def layer_rows(
    network: nn.Module, masks: Masks, moments: dict[str, tuple[float, float]], flops: Flops | None
) -> list[dict[str, Any]]:
    """Return one row per prunable parameter tensor: shape, counts, FLOPs, mean and variance of its scores."""
    rows = []
    parameters = dict(network.named_parameters(remove_duplicate=False))
    for name, density in layer_densities(masks).items():
        dense = flops.by_parameter.get(name, 0) if flops else None
        mean, variance = moments.get(name, (None, None))
        rows.append(
            {
                "layer": name,
                "shape": "x".join(map(str, parameters[name].shape)),
                "total": masks[name].numel(),
                "kept": int(masks[name].sum()),
                "density": density,
                "flops_dense": dense,
                "flops_sparse": None if dense is None else dense * density,
                "score_mean": mean,
                "score_var": variance,
            }
        )
    return rows


def count_result(masks: Masks, flops: Flops | None, effective: float | None) -> dict[str, Any]:
    """Return the part of the result that follows from the masks."""
    prunable, kept = count_all(masks), count_kept(masks)
    density = kept / prunable
    return {
        "compression": float(-torch.tensor(density, dtype=torch.float64).log10()) + 0.0,
        "sparsity": 1 - density,
        "density": density,
        "effective_density": effective,
        "prunable": prunable,
        "kept": kept,
        "flops_dense": flops.total if flops else None,
        "flops_sparse": flops.sparse(layer_densities(masks)) if flops else None,
        "collapsed": collapsed_layers(masks),
    }


def test_result(
    trainer: pl.Trainer, module: Classifier, measured: Measurements, density: float
) -> dict[str, Any]:
    """Test once and return the part of the result that follows from accuracies and clocks."""
    start = time.perf_counter()
    trainer.test(module, datamodule=trainer.datamodule, verbose=False)  # type: ignore[attr-defined]
    final = module.tested
    return {
        "top1": final["top1"],
        "top5": final["top5"],
        "test_loss": final["loss"],
        "best_top1": measured.best_top1(density),
        "top1_before": measured.prunings.top1_before,
        "top1_after": measured.prunings.top1_after,
        "top1_repaired": measured.prunings.top1_repaired,
        "top1_recalibrated": measured.prunings.top1_recalibrated,
        "epochs": len(measured.epochs.rows),
        "train_seconds": sum(row["seconds"] for row in measured.epochs.rows),
        "test_seconds": time.perf_counter() - start,
    }


def details(
    module: Classifier, masks: Masks, measured: Measurements, class_names: list[str]
) -> dict[str, Any]:
    """Return the arrays of ``details.npz``."""
    return {
        **{name: array.numpy() for name, array in measured.prunings.histograms.items()},
        **{name: array.numpy() for name, array in kept_connections(masks).items()},
        **confusions(module, measured),
        "class_names": class_names,
    }


def confusions(module: Classifier, measured: Measurements) -> dict[str, Any]:
    """Return the confusion matrices (row: class, column: taken for), and accuracies by class in percent."""
    final = module.tested_confusion
    found = {f"confusion/{name}": matrix.numpy() for name, matrix in measured.prunings.confusions.items()}
    found |= {"confusion/test": final.numpy(), "accuracy_by_class": accuracy_by_class(final).numpy()}
    if "test_before" in measured.prunings.confusions:
        before = measured.prunings.confusions["test_before"]
        found["accuracy_by_class_before"] = accuracy_by_class(before).numpy()
    return found
