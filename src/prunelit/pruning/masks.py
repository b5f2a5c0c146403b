"""Scores to masks: exact counts, a stated rule for ties, and what is done with masks.

A mask is a bool tensor of its parameter's shape, True where the parameter is kept. Masks and
scores go by the parameters' full names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from prunelit.pruning.parameters import Parameters
from prunelit.request import BadRequest

Masks = dict[str, Tensor]
Scores = dict[str, Tensor]

SCOPES = ("global", "layer")


class NonFiniteScores(ArithmeticError):
    """A criterion gave NaN or infinity; the message names the layer."""


def full_masks(parameters: Mapping[str, Tensor]) -> Masks:
    """Return masks that keep everything."""
    return {name: torch.ones(p.shape, dtype=torch.bool, device=p.device) for name, p in parameters.items()}


def num_kept(density: float, n: int) -> int:
    """Return how many of ``n`` parameters a density keeps: ``round(density * n)``."""
    return round(density * n)


def make_masks(scores: Scores, density: float, scope: str = "global", previous: Masks | None = None) -> Masks:
    """Keep the ``round(density * n)`` parameters of highest score, among those that ``previous`` keeps.

    With scope ``global`` all parameters compete and ``n`` counts them all; with ``layer`` each
    tensor is a competition of its own, with its own ``n``. Where scores tie at the threshold,
    the parameters that come first are kept: tensors in their order, elements in row-major order.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
    """
    previous = previous or full_masks(scores)
    for name, score in scores.items():
        if not torch.isfinite(score).all():
            raise NonFiniteScores(f"the scores of layer {name} are not finite")
    if scope == "global":
        return _keep_highest(scores, density, previous)
    if scope == "layer":
        return {n: _keep_highest({n: s}, density, {n: previous[n]})[n] for n, s in scores.items()}
    raise BadRequest("pruner.scope", scope, "one of " + ", ".join(SCOPES))


def _keep_highest(scores: Scores, density: float, previous: Masks) -> Masks:
    """Keep exactly ``round(density * n)`` of all elements; fewer only if ``previous`` keeps fewer."""
    k = num_kept(density, sum(score.numel() for score in scores.values()))
    dtype = torch.float32 if all(s.dtype == torch.float32 for s in scores.values()) else torch.float64
    alive = torch.cat([scores[name][previous[name]].to(dtype) for name in scores])
    if k >= alive.numel():
        return {name: previous[name].clone() for name in scores}
    if k == 0:
        return {name: torch.zeros_like(previous[name]) for name in scores}
    threshold = _kth_highest(alive, k)
    masks = {n: ((score.to(dtype) > threshold) & previous[n]).contiguous() for n, score in scores.items()}
    missing = k - sum(int(mask.sum()) for mask in masks.values())
    for name, mask in masks.items():
        if missing == 0:
            break
        ties = ((scores[name].to(dtype) == threshold) & previous[name]).flatten().nonzero()[:missing, 0]
        mask.view(-1)[ties] = True
        missing -= len(ties)
    assert missing == 0
    return masks


def _kth_highest(values: Tensor, k: int) -> Tensor:
    """Return the ``k``-th highest of ``values`` (1-d, overwritten), with 1 <= k <= len(values)."""
    if values.is_cuda:
        return values.kthvalue(len(values) - k + 1).values
    array = values.cpu().numpy()
    # NumPy's vectorised selection is several times faster than torch.kthvalue on a CPU.
    array.partition(len(array) - k)
    return torch.from_numpy(np.asarray(array[len(array) - k])).to(values.device)


@torch.no_grad()
def apply_masks(parameters: Mapping[str, Tensor], masks: Masks) -> None:
    """Set each pruned parameter to exactly 0, in place."""
    for name, mask in masks.items():
        parameters[name].masked_fill_(~mask, 0)


@torch.no_grad()
def apply_masks_to_gradients(parameters: Parameters, masks: Masks) -> None:
    """Set the gradient of each pruned parameter to exactly 0, in place."""
    for name, mask in masks.items():
        gradient = parameters[name].grad
        if gradient is not None:
            gradient.masked_fill_(~mask, 0)


def count_kept(masks: Masks) -> int:
    """Return how many parameters the masks keep."""
    return sum(int(mask.sum()) for mask in masks.values())


def count_all(masks: Mapping[str, Tensor]) -> int:
    """Return how many parameters the masks cover."""
    return sum(mask.numel() for mask in masks.values())


def density_of(masks: Masks) -> float:
    """Return the kept share of the prunable parameters."""
    return count_kept(masks) / count_all(masks)


def layer_densities(masks: Masks) -> dict[str, float]:
    """Return the kept share of each tensor."""
    return {name: int(mask.sum()) / mask.numel() for name, mask in masks.items()}


def collapsed_layers(masks: Masks) -> list[str]:
    """Return the names of the tensors with no parameter kept."""
    return [name for name, mask in masks.items() if not mask.any()]


def shuffle_within_layers(masks: Masks, among: Masks) -> Masks:
    """Return masks with the same count a layer at random positions, drawn where ``among`` is True.

    Draws from the global random state of the CPU.
    """
    shuffled = {}
    for name, mask in masks.items():
        places = among[name].flatten().nonzero()[:, 0]
        order = torch.randperm(len(places)).to(mask.device)
        new = torch.zeros(mask.shape, dtype=torch.bool, device=mask.device)
        new.view(-1)[places] = mask.flatten()[places[order]]
        shuffled[name] = new
    return shuffled


def digest(masks: Masks) -> str:
    """Return a SHA-256 of names and masks, the same on every machine and rank."""
    sha = hashlib.sha256()
    for name in sorted(masks):
        sha.update(name.encode())
        sha.update(np.packbits(masks[name].cpu().numpy().reshape(-1)).tobytes())
    return sha.hexdigest()


def attach(network: nn.Module, masks: Masks) -> None:
    """Note ``masks`` on the network itself, outside its state dict, so that copies of it keep them.

    Masks noted earlier under other names stay noted.
    """
    network.__dict__["_prunelit_masks"] = {**(attached(network) or {}), **masks}


def attached(network: nn.Module) -> Masks | None:
    """Return the masks noted on the network or on a copy of it, or None."""
    masks: Masks | None = network.__dict__.get("_prunelit_masks")
    return masks
