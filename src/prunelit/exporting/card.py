"""The card of an export: accuracy, size, cost and latency of each form of the network, before and after."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prunelit.exporting.probe_images import ProbeImages
from prunelit.exporting.variants import Made, Variant, threads_to_measure
from prunelit.exporting.wanted import Wanted
from prunelit.notice import warn
from prunelit.pruning.flops import count_flops
from prunelit.study.record import Record
from prunelit.training.measuring.latency import compare_latency
from prunelit.training.parallel.threads import put_back

BATCH_SIZES = (1, 64)
SECONDS = 2.0
"""The most seconds that all turns of one measurement take."""
OF_THE_RUN = ("pruner", "model", "data", "seed", "density", "top1")

Card = dict[str, Any]


def make_card(record: Record, made: Made, images: ProbeImages, wanted: Wanted, example: Tensor) -> Card:
    """Measure each form of the network and return ``card.json``.

    Args:
        record: the record of the run.
        made: the forms of the network.
        images: the images for the accuracy, if they belong to the run.
        wanted: the format, and the number of images that programs take.
        example: one image, normalised for the networks.
    """
    result = record.result
    return {
        "run": record.folder.resolve().name,
        "recorded": {key: result.get(key) for key in OF_THE_RUN},
        "format": wanted.format,
        "batch": wanted.batch or "dynamic",
        "checked_with": images.source,
        "largest_change": made.change,
        "networks": [_costs(variant, images, wanted, example) for variant in made.variants],
        "latency": _latencies(made.variants, images.test, wanted),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }


def _costs(variant: Variant, images: ProbeImages, wanted: Wanted, example: Tensor) -> Card:
    program = variant.at(torch.get_num_threads())
    takes_any = wanted.batch is None or variant.runtime == "PyTorch"
    return {
        "name": variant.name,
        "runtime": variant.runtime,
        "top1": images.accuracy(program) if takes_any else None,
        "bytes": variant.size,
        "parameters": sum(p.numel() for p in variant.network.parameters()),
        "flops": _flops(variant.network, example),
    }


def _flops(network: nn.Module, example: Tensor) -> int | None:
    try:
        return count_flops(network, example).total
    except Exception as error:  # fvcore traces the network, which may raise anything
        warn(f"FLOPs cannot be counted: {type(error).__name__}: {error}")
        return None


def _latencies(variants: Sequence[Variant], images: Tensor, wanted: Wanted) -> list[Card]:
    rows = []
    with put_back():
        for threads in threads_to_measure():
            torch.set_num_threads(threads)
            programs = {variant.name: variant.at(threads) for variant in variants}
            for size in BATCH_SIZES if wanted.batch is None else (wanted.batch,):
                batch = images[torch.arange(size) % len(images)]
                taken = compare_latency(programs, batch, SECONDS)
                rows += [
                    {
                        "name": variant.name,
                        "runtime": variant.runtime,
                        "device": taken.device,
                        "threads": threads,
                        "batch_size": size,
                        "p50_ms": taken.milliseconds[variant.name],
                        "p95_ms": taken.p95[variant.name],
                        "passes": taken.passes,
                    }
                    for variant in variants
                ]
    return rows
