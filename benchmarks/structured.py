"""What is left of torchvision's networks once half of all units are pruned and cut out.

    python benchmarks/structured.py [--networks NAME,NAME] [--density D] [--size N] [--latency]

Prunes units of untrained networks by the L1 norm of their filters (``granularity="unit"``, ``scope="layer"``)
and cuts them out. Prints a Markdown table: the parameters and multiply-accumulates left, as shares of the
dense network's; the largest difference between the outputs of the masked network and of the cut one on new
inputs of another batch size, divided by the largest output; and the CPU time of pruning and cutting.
``--latency`` adds the median milliseconds of a forward pass of one image, dense and cut, in turns. The last
line is the record in JSON, whose ``ratio`` is the median share of the multiply-accumulates that is left.
"""

from __future__ import annotations

import argparse
import copy
import json
import time
import warnings
from collections.abc import Iterable
from statistics import median
from typing import Any

import torch
from setting import setting
from torch import nn
from torchvision.models import get_model

from prunelit import L1Filter, Objective, Plan, Selection, compact, prune
from prunelit.pruning.flops import count_flops

NETWORKS = (
    "resnet18,resnet50,wide_resnet50_2,resnext50_32x4d,densenet121,squeezenet1_1,vgg11_bn,mobilenet_v2,"
    "mobilenet_v3_large,efficientnet_b0,regnet_x_400mf,shufflenet_v2_x1_0,googlenet,maxvit_t,"
    "alexnet,resnet34,regnet_y_400mf,inception_v3,mobilenet_v3_small,mnasnet1_0,shufflenet_v2_x0_5,"
    "squeezenet1_0,densenet169,efficientnet_v2_s,vgg16_bn,convnext_tiny,vit_b_16,vit_b_32,swin_t,swin_v2_t"
)
PASSES = 11
COLUMNS = {
    "network": "{}",
    "parameters": "{:.2f}",
    "MACs": "{:.2f}",
    "difference": "{:.0e}",
    "CPU seconds": "{:.1f}",
}
"""The columns of the table, and how their values are written."""


def built(name: str, size: int) -> nn.Module:
    """Return an untrained network in evaluation mode, whose outputs depend on all of it."""
    torch.manual_seed(0)
    # Their own initialization takes long, and nothing below depends on it.
    options: dict[str, Any] = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    if name.startswith("vit_"):
        options["image_size"] = size
    elif name.startswith("maxvit"):
        options["input_size"] = (size, size)
    network = get_model(name, weights=None, **options).eval()
    for module in network.modules():  # a classifier that starts at 0 would hide every difference
        if isinstance(module, nn.Linear) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.02)
    return network


def cost(network: nn.Module, image: torch.Tensor) -> tuple[int, int]:
    """Return the number of parameters and the multiply-accumulates of one image."""
    return sum(p.numel() for p in network.parameters()), count_flops(network, image).total


def difference(masked: nn.Module, cut: nn.Module, images: torch.Tensor) -> float:
    """Return the largest difference of the outputs, divided by the largest output."""
    with torch.inference_mode():
        expected, found = masked(images), cut(images)
    return float((found - expected).abs().max() / expected.abs().max())


def latencies(networks: tuple[nn.Module, ...], image: torch.Tensor) -> list[float]:
    """Return the median milliseconds of a forward pass of each network, in turns after a warm-up."""
    passes: list[list[float]] = [[] for _ in networks]
    with torch.inference_mode():
        for _ in range(PASSES + 2):
            for taken, network in zip(passes, networks, strict=True):
                start = time.perf_counter()
                network(image)
                taken.append(1000 * (time.perf_counter() - start))
    return [median(taken[2:]) for taken in passes]


def measured(name: str, size: int, density: float, with_latency: bool) -> dict[str, Any]:
    """Return a row of the table."""
    dense = built(name, size)
    image = torch.randn(1, 3, size, size)
    before = cost(dense, image)
    masked = copy.deepcopy(dense)
    start = time.process_time()
    units, plan = Selection(granularity="unit"), Plan(scope="layer")
    prune(masked, L1Filter(), density, selection=units, plan=plan, objective=Objective(inputs=(image,)))
    cut = compact(masked, image).eval()
    seconds = time.process_time() - start
    parameters, macs = (a / b for a, b in zip(cost(cut, image), before, strict=True))
    row: dict[str, Any] = {"network": name, "parameters": parameters, "MACs": macs}
    row["difference"] = difference(masked, cut, torch.randn(3, 3, size, size))
    row["CPU seconds"] = seconds
    if with_latency:
        row["ms dense"], row["ms cut"] = latencies((dense, cut), image)
    return row


def printed(cells: Iterable[str]) -> None:
    """Print a row of the table."""
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Measure the chosen networks, one after the other."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--networks", default=NETWORKS, help="torchvision's names, joined by commas")
    arguments.add_argument(
        "--density", type=float, default=0.5, help="share of each group's units to keep; 0.5"
    )
    arguments.add_argument("--size", type=int, default=224, help="height and width of the images; 224")
    arguments.add_argument("--latency", action="store_true", help="time forward passes of one image")
    given = arguments.parse_args()
    warnings.simplefilter("ignore")
    columns = {**COLUMNS, **({"ms dense": "{:.0f}", "ms cut": "{:.0f}"} if given.latency else {})}
    printed(columns)
    printed("---" for _ in columns)
    rows, failures = [], {}
    for name in given.networks.split(","):
        try:
            rows.append(measured(name, given.size, given.density, given.latency))
            printed(shape.format(rows[-1][column]) for column, shape in columns.items())
        except Exception as error:  # the other networks are still measured
            failures[name] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
            printed([name, *("-" for _ in list(columns)[1:])])
    for name, why in failures.items():
        print(f"{name}: {why}")
    record = {
        "benchmark": "structured",
        "ratio": round(median(row["MACs"] for row in rows), 3) if rows else None,
        "rows": rows,
        "failures": failures,
        "density": given.density,
        "size": given.size,
        **setting(),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
