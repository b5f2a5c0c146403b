"""The number of parameters that each layer keeps if layers do not compete: densities by layer, and N:M
patterns."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor

from prunelit.pruning.finite_scores import check_finite
from prunelit.pruning.masks import Masks, Scores, count_all, make_masks, num_kept
from prunelit.pruning.ties import Ties
from prunelit.request import BadRequest

PATTERN = re.compile(r"([1-9]\d*):([1-9]\d*)")


def erdos_renyi_densities(
    shapes: Mapping[str, torch.Size], density: float, kernel: bool = True
) -> dict[str, float]:
    """Return the density of each tensor under the Erdos-Renyi rule, at ``density`` overall.

    A weight of shape (out, in, ...) has a density proportional to ``(out + in) / (out * in)`` (Mocanu et al.,
    https://arxiv.org/abs/1707.04780), with ``kernel`` to ``(out + in + kernel sizes) / (out * in * kernel
    sizes)`` (Evci et al., https://arxiv.org/abs/1911.11134). If this exceeds 1, the layer is dense and the
    others share the rest. Tensors of one dimension (biases, normalisation) stay dense while that leaves
    enough.
    """
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    raw = {name: _raw_density(shape, kernel) for name, shape in shapes.items()}
    wanted = density * sum(sizes.values())
    dense: set[str] = {name for name, shape in shapes.items() if len(shape) < 2}
    if sum(sizes[name] for name in dense) > wanted or dense == set(shapes):
        return dict.fromkeys(shapes, density)
    while True:
        others = [name for name in shapes if name not in dense]
        left = wanted - sum(sizes[name] for name in dense)
        epsilon = left / sum(raw[name] * sizes[name] for name in others) if others else 0.0
        over = {name for name in others if epsilon * raw[name] > 1}
        if not over:
            return {name: 1.0 if name in dense else epsilon * raw[name] for name in shapes}
        dense |= over


def _raw_density(shape: torch.Size, kernel: bool) -> float:
    if len(shape) < 2:
        return 1.0
    counted = shape if kernel else shape[:2]
    return sum(counted) / math.prod(counted)


def pattern_of(text: str) -> tuple[int, int]:
    """Return (N, M) of a pattern such as ``2:4``.

    Raises:
        BadRequest: the text has another form, or N > M.
    """
    found = PATTERN.fullmatch(text)
    n, m = (int(found[1]), int(found[2])) if found else (1, 0)
    if n > m:
        raise BadRequest("pattern", text, "N:M with N <= M, such as 2:4")
    return n, m


def pattern_mask(
    score: Tensor, n: int, m: int, previous: Tensor, name: str = "", ties: Ties | None = None
) -> Tensor:
    """Keep the ``n`` highest scores of each ``m`` consecutive inputs of an output unit.

    Groups run along axis 1, the input units, at each kernel position, as sparse matrix units read them; the
    last group may be smaller. Of equal scores the first are kept. Tensors of one dimension are left as
    ``previous`` has them. ``ties`` records under ``name`` where the order decided. Source: Zhou et al.,
    https://arxiv.org/abs/2102.04010.
    """
    if score.ndim < 2:
        return previous.clone()
    rows = score.masked_fill(~previous, -math.inf).movedim(1, -1)
    inputs = rows.shape[-1]
    padded = torch.nn.functional.pad(rows, (0, -inputs % m), value=-math.inf)
    groups = padded.reshape(*padded.shape[:-1], -1, m)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    if ties is not None:
        ties.note_groups(name, groups.gather(-1, order), n)
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], True)
    mask = kept.reshape(padded.shape)[..., :inputs].movedim(-1, 1)
    return mask & previous


def pattern_masks(scores: Scores, n: int, m: int, previous: Masks, ties: Ties | None = None) -> Masks:
    """Return :func:`pattern_mask` of every tensor."""
    check_finite(scores)
    return {name: pattern_mask(score, n, m, previous[name], name, ties) for name, score in scores.items()}


def layer_masks(
    scores: Scores,
    densities: Mapping[str, float],
    previous: Masks,
    keep_at_least: int = 0,
    ties: Ties | None = None,
) -> Masks:
    """Keep the highest scores of each tensor at its own density; in all ``round(sum of density * size)``.

    Counts are rounded down first; the tensors with the largest remainders get one more.
    """
    sizes = {name: score.numel() for name, score in scores.items()}
    exact = {name: densities[name] * sizes[name] for name in scores}
    # A tiny lift: 0.3 * 10 is 2.9999999999999996 in floating point.
    counts = {name: min(sizes[name], math.floor(exact[name] + 1e-9)) for name in scores}
    total = round(math.fsum(exact.values()), 9)  # 7.499999999999999 is 7.5, which rounds to 8
    missing = round(total) - sum(counts.values())
    by_remainder = sorted(scores, key=lambda name: counts[name] - exact[name])
    for name in [name for name in by_remainder if counts[name] < sizes[name]][: max(0, missing)]:
        counts[name] += 1
    masks: Masks = {}
    for name, score in scores.items():
        density = counts[name] / sizes[name]
        masks |= make_masks({name: score}, density, "layer", {name: previous[name]}, keep_at_least, ties)
    return masks


def rounded_up_masks(
    scores: Scores,
    density: float,
    scope: str,
    previous: Masks,
    keep_at_least: int = 0,
    ties: Ties | None = None,
) -> Masks:
    """Keep the highest scores, as :func:`make_masks`, with counts rounded up (see :func:`num_kept`)."""
    if scope == "global":
        n = count_all(scores)
        return make_masks(scores, num_kept(density, n, "up") / n, scope, previous, keep_at_least, ties)
    sizes = {name: score.numel() for name, score in scores.items()}
    densities = {name: num_kept(density, n, "up") / n for name, n in sizes.items()}
    return layer_masks(scores, densities, previous, keep_at_least, ties)
