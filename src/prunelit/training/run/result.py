"""What a trained and pruned network is: the rows, numbers and arrays of its record."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
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
from prunelit.training.callback import Pruning
from prunelit.training.measuring.evaluation import accuracy_by_class
from prunelit.training.measuring.histograms import kept_connections
from prunelit.training.measuring.measurements import Measurements
from prunelit.training.module import Classifier
from prunelit.training.run.parts import Assembly
from prunelit.training.scoring.batch_transfer import transferred

PACKAGES = ("prunelit", "torch", "torchvision", "lightning", "hydra-core", "torchmetrics", "fvcore")


@dataclass(frozen=True)
class Found:
    """What a run found: part of ``result.json``, rows of ``layers.csv``, arrays of ``details.npz``, masks."""

    result: dict[str, Any]
    layers: list[dict[str, Any]]
    details: dict[str, Any]
    masks: Masks


def find(run: Assembly) -> Found:
    """Count and test the network of a run that was fitted; what cannot be had is null, with a warning."""
    pruning, network, module, attempt = run.pruning, run.network, run.module, run.measured.attempt
    masks = final_masks(pruning, network)
    flops = attempt("FLOPs", lambda: count_flops(network, example_for(run)))
    if flops is not None and flops.uncounted:
        warn(f"FLOPs exclude {', '.join(flops.uncounted)}, which fvcore does not count")
    effective = attempt("effective density", lambda: effective_density(network, masks, example_for(run)))
    counted = count_result(masks, flops, effective)
    result = {
        **counted,
        **test_result(run.trainer, module, run.measured, counted["density"]),
        "rounds": pruning.num_rounds if pruning else 0,
        "prune_seconds": pruning.seconds if pruning else 0.0,
        **environment(run.trainer),
    }
    layers = layer_rows(network, masks, pruning.score_moments if pruning else {}, flops)
    arrays = attempt("details", lambda: details(module, masks, run.measured, run.data.class_names))
    return Found(result, layers, arrays or {"class_names": run.data.class_names}, masks)


def example_for(run: Assembly) -> Tensor:
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
    """Return a row a prunable parameter tensor: shape, counts, FLOPs and its scores' mean and variance."""
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
        "top1_before": measured.top1_before,
        "top1_after": measured.top1_after,
        "epochs": len(measured.epochs),
        "train_seconds": sum(row["seconds"] for row in measured.epochs),
        "test_seconds": time.perf_counter() - start,
    }


def details(
    module: Classifier, masks: Masks, measured: Measurements, class_names: list[str]
) -> dict[str, Any]:
    """Return the arrays of ``details.npz``."""
    return {
        **{name: array.numpy() for name, array in measured.histograms.items()},
        **{name: array.numpy() for name, array in kept_connections(masks).items()},
        **confusions(module, measured),
        "class_names": class_names,
    }


def confusions(module: Classifier, measured: Measurements) -> dict[str, Any]:
    """Return the confusion matrices (row: class, column: taken for), and accuracies by class in percent."""
    final = module.tested_confusion
    found = {f"confusion/{name}": matrix.numpy() for name, matrix in measured.confusions.items()}
    found |= {"confusion/test": final.numpy(), "accuracy_by_class": accuracy_by_class(final).numpy()}
    if "test_before" in measured.confusions:
        before = measured.confusions["test_before"]
        found["accuracy_by_class_before"] = accuracy_by_class(before).numpy()
    return found


def place(trainer: pl.Trainer) -> str:
    """Return the device as this machine, or ``CUDA_VISIBLE_DEVICES``, names it: ``cpu`` or ``cuda:3``."""
    device = trainer.strategy.root_device
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if device.type != "cuda" or not visible[0] or (device.index or 0) >= len(visible):
        return str(device)
    return f"cuda:{visible[device.index or 0]}"


def forget_peak_memory() -> None:
    """Let the largest use of memory be that from now on: earlier runs of this process do not count."""
    with suppress(OSError):  # Linux alone can: elsewhere it is that of the process
        Path("/proc/self/clear_refs").write_text("5")
    if torch.cuda.is_initialized():
        for device in range(torch.cuda.device_count()):
            torch.cuda.reset_peak_memory_stats(device)


def environment(trainer: pl.Trainer) -> dict[str, Any]:
    """Return device, precision, memory and versions."""
    device = trainer.strategy.root_device
    cuda = device.type == "cuda"
    # ru_maxrss is in kilobytes on Linux, in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "device": torch.cuda.get_device_name(device) if cuda else platform.machine() + " " + device.type,
        "precision": str(trainer.precision),
        "threads": torch.get_num_threads(),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device) if cuda else resident,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "git": _commit(),
    }


def _version(package: str) -> str | None:
    """Return the version of an installed package; None for one that is only on the path."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Return the git commit of this checkout, with ``+`` for uncommitted changes; None elsewhere."""
    here = Path(__file__).parent
    try:
        describe = ["git", "-C", str(here), "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"]
        return subprocess.run(describe, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
