"""The door from a run to a program: its network, cut to what pruning left, in one file that PyTorch runs.

python -m prunelit.export outputs/default/<run>
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from prunelit.durable import replacing
from prunelit.request import BadRequest
from prunelit.study.integrity import DamagedRun
from prunelit.study.record import Record

if TYPE_CHECKING:
    from torch import Tensor, nn

    from prunelit.training.data import ImageData


def export(run: Path, out: Path | None = None) -> dict[str, Any]:
    """Write the network of a complete run without the units that pruning emptied, and say what that saves.

    The file is a ``torch.export`` program from images, uint8 of shape (n, channels, height, width) with any
    n, to logits; normalisation is part of it. ``torch.export.load(FILE).module()`` runs it without
    prunelit.

    Args:
        run: the run's folder.
        out: the file to write; ``compact.pt2`` in the run's folder if not given.

    Returns:
        ``file``, and for ``dense`` (the network as trained, zeros and all) and ``compact`` the
        ``parameters``, the ``flops`` of one input, and the median ``milliseconds`` of a batch of 64.

    Raises:
        DamagedRun: a file of the run is not the one that it wrote.
        BadRequest: not the folder of a complete run, a network of which nothing can be cut out, or no place
            to write to.
    """
    network, data = _network_of(run)
    import torch
    from torch import nn

    from prunelit.pruning.compact import compact

    images = torch.randint(256, (2, *data.input_shape), dtype=torch.uint8)
    example = data.normalise(images)
    try:
        small = compact(network, example)
    except ValueError as error:
        raise BadRequest("RUN", run, "a run whose network can be made smaller", str(error)) from error
    target = out or run / "compact.pt2"
    batch = {0: torch.export.Dim("batch", min=1)}
    whole = nn.Sequential(data.normalise.module(), small).eval()
    program = torch.export.export(whole, (images,), dynamic_shapes=(batch,))
    try:
        with replacing(target) as file:
            torch.export.save(program, file)
    except OSError as error:
        raise BadRequest("--out", target, "a file that can be written", error.strerror or "") from error
    costs = {"dense": _cost(network, example), "compact": _cost(small, example)}
    return {"file": target, **costs}


def _network_of(run: Path) -> tuple[nn.Module, ImageData]:
    """Return the trained network of a run, and its data."""
    if not (run / "result.json").is_file() or not (run / ".hydra" / "config.yaml").is_file():
        raise BadRequest("RUN", run, "the folder of a complete run")
    Record(run).check(digests=True)
    from omegaconf import OmegaConf

    from prunelit.study import command  # noqa: F401  (its resolvers stand in configs)
    from prunelit.training import build
    from prunelit.training.checkpoints import start_from

    cfg: Any = OmegaConf.load(run / ".hydra" / "config.yaml")
    data = build.build_data(cfg)
    data.prepare_data()
    data.setup()
    network, _ = build.build_network(cfg, data)
    start_from(network, run / "weights.safetensors")
    return network.eval(), data


def _cost(network: nn.Module, example: Tensor) -> dict[str, float]:
    import torch

    from prunelit.pruning.flops import count_flops

    batch = example[:1].repeat(64, *[1] * (example.ndim - 1))
    seconds = []
    with torch.inference_mode():
        for _ in range(7):
            start = time.perf_counter()
            network(batch)
            seconds.append(time.perf_counter() - start)
    return {
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "flops": count_flops(network, example[:1]).total,
        "milliseconds": 1000 * median(seconds),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; return the exit status: 0 done, 2 a wrong request."""
    parser = argparse.ArgumentParser("prunelit-export", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of a complete run")
    parser.add_argument("--out", type=Path, help="file to write; default: compact.pt2 in RUN")
    given = parser.parse_args(argv)
    try:
        done = export(given.run, given.out)
    except BadRequest as error:
        print(error, file=sys.stderr)
        return 2
    except DamagedRun as error:
        print(error, file=sys.stderr)
        return 1
    for name in ("dense", "compact"):
        cost = done[name]
        print(
            f"{name:8} {cost['parameters']:>12,} parameters {cost['flops']:>15,.0f} FLOPs"
            f" {cost['milliseconds']:9.2f} ms for 64 inputs"
        )
    print(f"written  {done['file']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
