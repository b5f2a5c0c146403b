"""The rates that bound everything else: bytes that a core reads, and operations that it does, each second.

    python benchmarks/rates.py

On one thread, least processor time of several repeats. ``read_gb_s`` reads 256 MB, which no cache of its own
holds; ``write_gb_s`` writes as much. ``float32_gflop_s`` and ``float64_gflop_s`` are those of products of
matrices of 1024 x 1024, ``convolution_gflop_s`` that of a convolution of VGG16 on 100 images in float32.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import torch
from setting import setting


def seconds(work: Callable[[], object], repeats: int = 5) -> float:
    """Return the least processor seconds of ``work``."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def rates() -> dict[str, float]:
    """Return the rates of one core."""
    torch.set_num_threads(1)
    row = torch.ones(2**26)
    products = {}
    for dtype in (torch.float32, torch.float64):
        matrix = torch.rand(1024, 1024, dtype=dtype)
        products[dtype] = 2 * 1024**3 / seconds(lambda matrix=matrix: matrix @ matrix) / 1e9  # type: ignore[misc]
    layer, images = torch.nn.Conv2d(128, 128, 3, padding=1), torch.rand(100, 128, 16, 16)
    with torch.no_grad():
        convolution = 2 * 100 * 16 * 16 * 128 * 128 * 9 / seconds(lambda: layer(images)) / 1e9
    return {
        "read_gb_s": round(row.nbytes / seconds(row.sum) / 1e9, 1),
        "write_gb_s": round(row.nbytes / seconds(lambda: row.fill_(1.0)) / 1e9, 1),
        "float32_gflop_s": round(products[torch.float32], 1),
        "float64_gflop_s": round(products[torch.float64], 1),
        "convolution_gflop_s": round(convolution, 1),
    }


def main() -> None:
    print(json.dumps({"benchmark": "rates", **rates(), **setting()}))


if __name__ == "__main__":
    main()
