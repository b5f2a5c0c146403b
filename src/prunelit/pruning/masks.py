"""From scores to masks: exact counts, a rule for ties, and operations on masks.

A mask is a bool tensor of its parameter's shape, True where the parameter is kept. Masks and
scores go by the parameters' full names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor, nn

from prunelit.pruning import loops
from prunelit.pruning.finite_scores import check_finite
from prunelit.pruning.highest import highest
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.score_pieces import PIECE
from prunelit.pruning.threads import threads
from prunelit.pruning.ties import Ties
from prunelit.request import BadRequest

Masks = dict[str, Tensor]
Scores = dict[str, Tensor]

SCOPES = ("global", "layer")


def full_masks(parameters: Mapping[str, Tensor]) -> Masks:
    """Return masks that keep everything."""
    return {name: torch.ones(p.shape, dtype=torch.bool, device=p.device) for name, p in parameters.items()}


def num_kept(density: float, n: int, rounding: str = "nearest") -> int:
    """Return how many of ``n`` parameters a density keeps: ``round(density * n)``.

    With rounding ``up``, ``n`` less the rounded-down count of those that are removed.
    """
    return n - int((1 - density) * n) if rounding == "up" else round(density * n)


def make_masks(
    scores: Scores,
    density: float,
    scope: str = "global",
    previous: Masks | None = None,
    keep_at_least: int = 0,
    ties: Ties | None = None,
) -> Masks:
    """Keep the ``round(density * n)`` parameters of highest score, among those that ``previous`` keeps.

    With scope ``global`` all parameters compete and ``n`` counts them all; with ``layer`` each
    tensor is a competition of its own, with its own ``n``. Where scores tie at the threshold,
    the parameters that come first are kept: tensors in their order, elements in row-major order.

    ``keep_at_least`` parameters of each tensor, its highest, are kept before the others compete, even if
    these are more than the density keeps; a tensor with fewer parameters is kept whole. ``ties`` records
    where the order of parameters, and not their scores, decides.

    Raises:
        NonFiniteScores: a score is NaN or infinite.
    """
    previous = previous or full_masks(scores)
    if keep_at_least:
        best = _best_of_each(scores, keep_at_least, previous)
        above = 1 + max(abs(float(score.max())) for score in scores.values())
        scores = {name: score.double().masked_fill(best[name], above) for name, score in scores.items()}
        if ties is not None:
            ties.spared |= {name: int(mask.sum()) for name, mask in best.items()}
        if scope == "global":
            density = max(density, density_of(best))
    if scope == "global":
        return _keep_highest(scores, density, previous, ties)
    if scope == "layer":
        shares = dict.fromkeys(scores, density)
        if keep_at_least:
            shares = {n: max(density, density_of({n: best[n]})) for n in scores}
        return {n: _keep_highest({n: s}, shares[n], {n: previous[n]}, ties)[n] for n, s in scores.items()}
    raise BadRequest("scope", scope, "one of " + ", ".join(SCOPES))


def threshold_masks(scores: Scores, threshold: float, previous: Masks, keep_at_least: int = 0) -> Masks:
    """Keep scores of at least ``threshold``, and ``keep_at_least`` of each tensor, within ``previous``."""
    check_finite(scores)
    best = _best_of_each(scores, keep_at_least, previous)
    return {n: ((score >= threshold) & previous[n]) | best[n] for n, score in scores.items()}


def _best_of_each(scores: Scores, number: int, previous: Masks) -> Masks:
    """Keep the ``number`` highest of each tensor, among those that ``previous`` keeps."""
    return {
        name: _keep_highest({name: score}, min(1.0, number / score.numel()), {name: previous[name]})[name]
        for name, score in scores.items()
    }


def _keep_highest(scores: Scores, density: float, previous: Masks, ties: Ties | None = None) -> Masks:
    """Keep exactly ``round(density * n)`` of all elements; fewer only if ``previous`` keeps fewer."""
    k = num_kept(density, count_all(scores))
    found = highest(list(scores.values()), k, [previous[name] for name in scores])
    if found is None:
        check_finite(scores)
    assert found is not None
    if ties is not None and found.threshold is not None:
        ties.note({name: score.numel() for name, score in scores.items()}, k, found)
    return dict(zip(scores, found.masks, strict=True))


@torch.no_grad()
def apply_masks(parameters: Mapping[str, Tensor], masks: Masks) -> None:
    """Set each pruned parameter to exactly 0, in place; ``masks`` may be of :func:`bit_masks`."""
    booleans = sum(mask.numel() for mask in masks.values() if mask.dtype == torch.bool)
    with threads(booleans // PIECE) as each:
        for _ in each(lambda name: apply_mask(parameters[name], masks[name]), masks):
            pass


def apply_mask(parameter: Tensor, mask: Tensor) -> None:
    """Set each pruned element of one parameter to exactly 0, in place."""
    _clear(parameter.detach(), mask)


@torch.no_grad()
def apply_masks_to_gradients(parameters: Parameters, masks: Masks) -> None:
    """Set the gradient of each pruned parameter to exactly 0, in place."""
    for name, mask in masks.items():
        gradient = parameters[name].grad
        if gradient is not None:
            _clear(gradient, mask)


def bit_masks(parameters: Mapping[str, Tensor], masks: Masks) -> Masks:
    """Return masks to apply again and again: integers as wide as their parameter, all bits set where kept.

    A bitwise and with them gives exactly 0, of NaN and infinity too, as ``masked_fill_`` does, and on
    a CPU takes a tenth of its time.
    """
    return {
        name: torch.zeros_like(p, dtype=_INTEGERS[p.element_size()]).masked_fill_(masks[name], -1)
        for name, p in parameters.items()
        if name in masks
    }


def bits_like(parameter: Tensor, bits: Tensor) -> Tensor:
    """Return ``bits``, of :func:`bit_masks`, on the device of ``parameter`` and as wide as it is."""
    return bits.to(parameter.device, _INTEGERS[parameter.element_size()])


_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def _clear(tensor: Tensor, mask: Tensor) -> None:
    if mask.dtype != torch.bool:
        tensor.view(mask.dtype).bitwise_and_(mask)
    elif tensor.device.type == mask.device.type == "cpu" and tensor.is_floating_point():
        # As integers, which gives exactly 0 of anything, and several times faster than masked_fill_.
        bits, marks = tensor.detach().view(_INTEGERS[tensor.element_size()]).numpy(), mask.numpy()
        if loops.available() and bits.flags.c_contiguous and marks.flags.c_contiguous:
            loops.clear_unmarked(bits, marks)
        else:
            np.multiply(bits, marks, out=bits)
    else:
        tensor.masked_fill_(~mask, 0)


def count_kept(masks: Masks) -> int:
    """Return how many parameters the masks keep."""
    return sum(map(_num_true, masks.values()))


def _num_true(mask: Tensor) -> int:
    """Return the sum of a mask; on a CPU by NumPy, which is many times faster than torch."""
    if mask.numel() and not any(mask.stride()):  # every element is the same one
        return mask.numel() * bool(mask[(0,) * mask.ndim])
    return int(np.count_nonzero(mask.numpy()) if mask.device.type == "cpu" else mask.sum())


def count_all(masks: Mapping[str, Tensor]) -> int:
    """Return how many parameters the masks cover."""
    return sum(mask.numel() for mask in masks.values())


def density_of(masks: Masks) -> float:
    """Return the kept share of the prunable parameters."""
    return count_kept(masks) / count_all(masks)


def layer_densities(masks: Masks) -> dict[str, float]:
    """Return the kept share of each tensor."""
    return {name: _num_true(mask) / mask.numel() for name, mask in masks.items()}


def collapsed_layers(masks: Masks) -> list[str]:
    """Return the names of the tensors with no parameter kept."""
    return [name for name, mask in masks.items() if not mask.numpy(force=True).any()]


def shuffle_within_layers(masks: Masks, among: Masks) -> Masks:
    """Return masks with the same count per layer at random positions, drawn where ``among`` is True.

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
    """Attach ``masks`` to the network itself, outside of its state dict, so that copies of it keep them.

    Masks attached earlier under other names are kept.
    """
    network.__dict__["_prunelit_masks"] = {**(attached(network) or {}), **masks}


def detach(network: nn.Module) -> None:
    """Remove the masks attached to ``network``."""
    network.__dict__.pop("_prunelit_masks", None)


def attached(network: nn.Module) -> Masks | None:
    """Return the masks attached to the network or to a copy of it, or None."""
    masks: Masks | None = network.__dict__.get("_prunelit_masks")
    return masks
