"""What the network of a run is once it is cut: parameters, multiply-accumulates and latency."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from prunelit.notice import warn
from prunelit.pruning.compact import compact
from prunelit.pruning.flops import count_flops
from prunelit.pruning.masks import Masks
from prunelit.pruning.preserve import modes, random_state
from prunelit.request import PruningWarning
from prunelit.training.measuring.best_effort import BestEffort
from prunelit.training.measuring.latency import compare_latency, seconds_of_a_pass
from prunelit.training.measuring.semi_structured import semi_structured

BATCH_SIZES = (1, 64)
FORMS = ("dense", "masked", "cut", "half", "2to4")
"""The network without a zero, with its zeros, without the units that pruning emptied; and, where weights have
the pattern 2:4 and there is a GPU, in half precision as it is and with products that skip the zeros."""
LATENCIES = tuple(f"latency_{form}_{size}" for form in FORMS for size in BATCH_SIZES)
"""Keys of ``result.json``: median milliseconds of a batch of this size."""
SECONDS = 0.5
"""How long the turns of one measurement take at most, if they are not fewer than five."""
LONGEST_PASS = 1.0
"""Seconds that a forward pass may take to be measured."""


def cut_result(
    network: nn.Module, masks: Masks, example: Tensor | None, attempt: BestEffort
) -> dict[str, Any]:
    """Return the part of the result that says what the network has once it is cut.

    All of it is None but ``parameters`` where nothing can be cut, and latency where the weights have no
    pattern 2:4 either: networks of equal shapes take equal times.

    Args:
        network: as it was trained, with its zeros.
        masks: what pruning kept.
        example: one input, on the network's device; None for a network that was not pruned.
        attempt: warns of what cannot be had.
    """
    result: dict[str, Any] = {
        "parameters": sum(p.numel() for p in network.parameters()),
        "parameters_compact": None,
        "flops_compact": None,
        **dict.fromkeys(LATENCIES),
    }
    if example is None:
        return result
    small = attempt("the cut network", lambda: _cut(network, example)) if may_shrink(masks) else None
    if small is not None:
        result["parameters_compact"] = sum(p.numel() for p in small.parameters())
        counted = attempt("FLOPs of the cut network", lambda: count_flops(small, example))
        result["flops_compact"] = counted.total if counted else None
    forms = attempt("latency", lambda: _forms(network, small, masks))
    if forms:
        result |= attempt("latency", lambda: _latencies(forms, example)) or {}
    return result


def may_shrink(masks: Masks) -> bool:
    """Whether a unit has lost all of its weights, those that it takes in or those that it is taken in by.

    Where none has, nothing can be cut, and there is no need to follow the network's units. The first
    weight's inputs are those of the network, which stay.
    """
    weights = [mask for mask in masks.values() if mask.ndim > 1]
    rows = all(bool(mask.flatten(1).any(1).all()) for mask in weights)
    columns = all(bool(mask.transpose(0, 1).flatten(1).any(1).all()) for mask in weights[1:])
    others = all(bool(mask.all()) for mask in masks.values() if mask.ndim < 2)
    return not (rows and columns and others)


def _cut(network: nn.Module, example: Tensor) -> nn.Module | None:
    """Return the smaller network; None if it is not smaller."""
    if any(isinstance(p, DTensor) for p in network.parameters()):
        raise ValueError("parameters that are split over ranks cannot be cut")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)  # what stays whole was said when it was pruned
        small = compact(network, example)
    sizes = [sum(p.numel() for p in each.parameters()) for each in (network, small)]
    return small if sizes[1] < sizes[0] else None


def _forms(network: nn.Module, small: nn.Module | None, masks: Masks) -> dict[str, nn.Module]:
    """Return the forms of the network whose latency differs."""
    faster = semi_structured(network, masks)
    if small is None and faster is None:
        return {}
    forms = {"dense": filled(network, masks), "masked": network}
    forms |= {"cut": small} if small is not None else {}
    return {**forms, **faster} if faster is not None else forms


@torch.no_grad()
def filled(network: nn.Module, masks: Masks) -> nn.Module:
    """Return a copy with random weights where pruning left zeros; the random state stays as it was."""
    dense = copy.deepcopy(network)
    with random_state(0):
        for name, mask in masks.items():
            weight = dense.get_parameter(name)
            weight[~mask] = 0.01 * torch.randn_like(weight)[~mask]
    return dense


def _latencies(forms: Mapping[str, nn.Module], example: Tensor) -> dict[str, float]:
    found: dict[str, float] = {}
    for size in BATCH_SIZES:
        batch = example.expand(size, *example.shape[1:]).contiguous()
        halves = [name for name in forms if name in ("half", "2to4")]
        with modes(forms["masked"]):
            for module in forms.values():
                module.eval()
            taken = seconds_of_a_pass(forms["masked"], batch)
            if taken > LONGEST_PASS:
                warn(f"the record lacks latency of batches of {size}: a forward pass takes {taken:.1f} s")
                continue
            for names, inputs in (([n for n in forms if n not in halves], batch), (halves, batch.half())):
                if names:
                    measured = compare_latency({name: forms[name] for name in names}, inputs, SECONDS)
                    found |= {f"latency_{name}_{size}": measured.milliseconds[name] for name in names}
    return found
