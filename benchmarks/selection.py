"""Scores of VGG16 to masks: prunelit's exact selection compared with a full ``torch.kthvalue`` per round.

    python benchmarks/selection.py [--repeats N] [--rounds N] [--compression X] [--device cpu|cuda]
    python benchmarks/selection.py --scores N

The scores are random, one for each of the 14,715,584 prunable weights, and fixed, so that only the selection
is timed. The plain way follows published code: in each round, the scores of removed weights are set to 0, all
scores are concatenated, ``torch.kthvalue`` returns the threshold, and ``score > threshold`` gives the masks.
prunelit keeps exactly ``round(density * n)`` of the weights that are still kept. Both follow the exponential
schedule, once in one round and once in ``--rounds`` rounds. A ratio is the median time of the plain way
divided by prunelit's; ``ratio`` refers to the many rounds. On a CPU, ``kthvalue`` compares one call of
``torch.kthvalue`` with one selection, by least times; ``cpu_ratio`` compares processor times, which other
processes disturb less. ``--scores`` does only that, with this number of scores in
tensors of a million each. ``memory`` is the most memory that a selection needed in addition to the scores,
as a share of the memory of the scores (Linux only).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from setting import setting
from torch import Tensor

from prunelit.pruning.highest import highest
from prunelit.pruning.masks import Masks, Scores, count_kept, full_masks, make_masks
from prunelit.pruning.parameters import Selection
from prunelit.pruning.schedules import exponential
from prunelit.training.models import VGG

Way = Callable[[Scores, float, int], Masks]


def plain(scores: Scores, density: float, rounds: int) -> Masks:
    masks = {name: torch.ones_like(score) for name, score in scores.items()}
    for i in range(1, rounds + 1):
        masked = {name: score * masks[name] for name, score in scores.items()}
        row = torch.cat([score.flatten() for score in masked.values()])
        k = int((1 - exponential(i, rounds, density, 1.0)) * row.numel())
        threshold, _ = torch.kthvalue(row, k)
        masks = {name: (score > threshold).to(score.dtype) for name, score in masked.items()}
    return masks


def ours(scores: Scores, density: float, rounds: int) -> Masks:
    masks = full_masks(scores)
    for i in range(1, rounds + 1):
        masks = make_masks(scores, exponential(i, rounds, density, 1.0), previous=masks)
    return masks


def timed(way: Way, scores: Scores, density: float, rounds: int) -> tuple[float, Masks]:
    """Return the seconds that ``way`` takes, and its masks."""
    start = time.perf_counter()
    masks = way(scores, density, rounds)
    if next(iter(scores.values())).is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - start, masks


def compare(scores: Scores, density: float, rounds: int, repeats: int) -> dict[str, float]:
    """Alternate the two ways; return median seconds, their ratio and how many weights each kept."""
    seconds: dict[Way, list[float]] = {plain: [], ours: []}
    kept = {}
    for _ in range(repeats):
        for way, values in seconds.items():
            spent, masks = timed(way, scores, density, rounds)
            values.append(spent)
            kept[way] = count_kept(masks)
    slow, fast = median(seconds[plain]), median(seconds[ours])
    return {
        "ratio": round(slow / fast, 2),
        "plain_seconds": round(slow, 3),
        "prunelit_seconds": round(fast, 3),
        "plain_kept": kept[plain],
        "prunelit_kept": kept[ours],
    }


def memory(key: str) -> int:
    """Return a figure of this process in bytes, 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def alone(scores: Scores, repeats: int) -> dict[str, float]:
    """Compare one ``torch.kthvalue`` of all scores in a row with masks of the highest tenth, on a CPU."""
    tensors, row = list(scores.values()), torch.cat([score.flatten() for score in scores.values()])
    full, k = [torch.ones_like(score, dtype=torch.bool) for score in tensors], len(row) // 10
    wall: dict[str, list[float]] = {"kthvalue": [], "highest": []}
    cpu: dict[str, list[float]] = {"kthvalue": [], "highest": []}
    before, peak = memory("VmRSS"), 0.0
    for _ in range(repeats):
        for name in reversed(wall):  # prunelit first, so that the peak is its own
            start, used = time.perf_counter(), time.process_time()
            row.kthvalue(len(row) - k + 1) if name == "kthvalue" else highest(tensors, k, full)
            wall[name].append(time.perf_counter() - start)
            cpu[name].append(time.process_time() - used)
            peak = peak or memory("VmHWM") - before
    return {
        "memory": round(peak / sum(score.nbytes for score in tensors), 3),
        "ratio": round(min(wall["kthvalue"]) / min(wall["highest"]), 2),
        "cpu_ratio": round(min(cpu["kthvalue"]) / min(cpu["highest"]), 2),
        **{f"{name}_cpu_seconds": round(min(values), 4) for name, values in cpu.items()},
    }


def random_scores(device: str) -> Scores:
    """Return a random float32 score for each prunable weight of VGG16."""
    draw = torch.Generator().manual_seed(0)
    parameters = Selection().of(VGG(num_classes=10, input_shape=(3, 32, 32)))

    def score(parameter: Tensor) -> Tensor:
        return torch.rand(parameter.shape, generator=draw).to(device)

    return {name: score(parameter) for name, parameter in parameters.items()}


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--repeats", type=int, default=3, help="of each way; 3")
    arguments.add_argument("--rounds", type=int, default=100, help="of the schedule with many rounds; 100")
    arguments.add_argument("--compression", type=float, default=2.0, help="log10(all / kept); 2")
    arguments.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments.add_argument(
        "--scores", type=int, help="number of scores of one selection on a CPU, which is compared alone"
    )
    given = arguments.parse_args()
    if given.scores:
        draw = torch.Generator().manual_seed(0)
        sizes = [min(2**20, given.scores - start) for start in range(0, given.scores, 2**20)]
        rows = {str(place): torch.rand(size, generator=draw) for place, size in enumerate(sizes)}
        compared = alone(rows, given.repeats)
        print(json.dumps({"benchmark": "selection", **compared, "scores": given.scores, **setting("cpu")}))
        return
    scores, density = random_scores(given.device), 10**-given.compression
    compare(scores, density, 1, 1)
    one = compare(scores, density, 1, given.repeats)
    many = compare(scores, density, given.rounds, given.repeats)
    record = {
        "benchmark": "selection",
        "ratio": many["ratio"],
        "one_round": one,
        f"{given.rounds}_rounds": many,
        **({} if given.device == "cuda" else {"kthvalue": alone(scores, max(3, given.repeats))}),
        "scores": sum(score.numel() for score in scores.values()),
        "compression": given.compression,
        "repeats": given.repeats,
        **setting(given.device),
    }
    print(json.dumps(record))


if __name__ == "__main__":
    main()
