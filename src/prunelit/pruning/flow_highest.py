"""The highest scores of a flow, without computing all of them in float64 or keeping any.

The score of weight (i, j) of a layer is ``|w_ij| * sum_m G_im C_jm``, where G is the gradient of the layer's
output and C what each output position sees. Both are small and in float64. A sample of exact scores gives
two values that the k-th highest almost certainly lies between. The scores are then computed in float32, a
few rows of a layer at a time in the processor's cache, and only marked; those between the two values are
noted. All terms are positive, so that an error bound holds for each score. The few that the bound leaves
undecided are computed exactly. Where anything is unclear, such as equal scores at the threshold, there is no
answer, and all scores must be computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prunelit.pruning.call import Call
from prunelit.pruning.flow import NoFlow
from prunelit.pruning.flow_scores import total_flow
from prunelit.pruning.highest import FEW, MARGINS, enclosing
from prunelit.pruning.masks import Masks, count_all, count_kept
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.scored_layers import ROWS, OutOfSight, ScoredLayers
from prunelit.pruning.threads import Map, threads

FEWEST = 2**20
"""Number of weights below which computing all scores takes no longer."""

SCALE = 30
"""Both factors are scaled so that the greatest element has this binary exponent."""

LEAST = 1.0
"""Least scaled threshold that is compared in float32."""

GREATEST = 2.0**80
"""Greatest weight whose score is compared in float32. With the factors scaled as they are and a threshold of
at least ``LEAST``, what is rounded below the range of float32 then matters for no score."""

EQUAL = 1e-12
"""Relative difference of exact scores up to which rounding may have exchanged them."""


class Unclear(Exception):
    """The highest scores cannot be told in this way."""


def highest_of_flow(
    network: nn.Module, parameters: Parameters, example: Call, biases: bool, k: int, alive: Masks
) -> Masks | None:
    """Return masks of the ``k`` highest scores of :func:`prunelit.pruning.flow_scores.flow_scores`.

    Args:
        network: in the modes in which it is to run.
        parameters: what is scored. What ``alive`` does not keep is 0.
        example: the arguments of one call, for one sample.
        biases: whether biases that are not among ``parameters`` count.
        k: how many are kept, fewer than ``alive`` keeps.
        alive: what competes.

    Returns:
        None where the scores must be computed to tell.
    """
    tensors = list(parameters.values())
    if count_all(parameters) < FEWEST or not all(map(_is_suitable, tensors)):
        return None
    try:
        with threads(count_all(parameters) // ROWS) as each:
            layers = ScoredLayers(parameters, None, each)
            factors = layers.factors(*total_flow(layers, network, parameters, example, biases))
            if sum(c.numel() for pairs in factors for _, c in pairs) > count_all(parameters):
                return None  # the factors would take more memory than the scores
            layers_scores = [_Products.of(p.detach(), f) for p, f in zip(tensors, factors, strict=True)]
            masks = [np.empty(p.shape, dtype=bool) for p in tensors]
            _mark_highest(layers_scores, masks, k, [alive[name] for name in parameters], each)
    except (OutOfSight, Unclear, NoFlow, RuntimeError):  # if it is no fault of this way, it comes again
        return None
    return {name: torch.from_numpy(mask) for name, mask in zip(parameters, masks, strict=True)}


def _is_suitable(parameter: Tensor) -> bool:
    short = parameter.dtype in (torch.float32, torch.bfloat16, torch.float16)
    return parameter.device.type == "cpu" and parameter.ndim > 1 and short and parameter.is_contiguous()


@dataclass(frozen=True)
class _Products:
    """The scores of one weight as products.

    Attributes:
        values: the weight, with the axes of inputs flattened.
        gradient: G in float64, (rows, M).
        columns: C in float64, (K, M).
        short_gradient: G in float32, divided by a power of two (see ``SCALE``).
        short_columns: C in the same way, (M, K).
        exponent: of the power of two that both were divided by.
    """

    values: Tensor
    gradient: Tensor
    columns: Tensor
    short_gradient: Tensor
    short_columns: Tensor
    exponent: int

    @classmethod
    def of(cls, values: Tensor, factors: Sequence[tuple[Tensor, Tensor]]) -> _Products:
        """Return the scores that ``factors`` give.

        Raises:
            Unclear: some factors are negative, or out of range.
        """
        gradient = torch.cat([g for g, _ in factors], 1) if len(factors) > 1 else factors[0][0]
        columns = torch.cat([c[0] for _, c in factors], 1) if len(factors) > 1 else factors[0][1][0]
        short_gradient, first = _shortened(gradient)
        short_columns, second = _shortened(columns)
        turned = short_columns.T.contiguous()
        return cls(values.flatten(1), gradient, columns, short_gradient, turned, first + second)

    @property
    def error(self) -> float:
        """A bound of the relative error of :meth:`look`'s scores."""
        return (self.gradient.shape[1] + 8) * 2.0**-23

    def exact(self, places: Any) -> Any:
        """Return the scores at ``places`` of the flattened weight in float64."""
        rows, inputs = (torch.from_numpy(part) for part in np.divmod(places, self.values.shape[1]))
        products = (self.gradient[rows] * self.columns[inputs]).sum(1)
        return products.mul_(self.values[rows, inputs].double().abs_()).numpy()

    def parts(self) -> list[slice]:
        """Return ranges of rows that fit into the cache."""
        size, width = self.values.shape
        step = max(1, ROWS // width)
        return [slice(start, min(start + step, size)) for start in range(0, size, step)]


def _shortened(factor: Tensor) -> tuple[Tensor, int]:
    """Return a factor in float32, divided by two to the power that is returned too."""
    least, greatest = map(float, factor.aminmax())
    if least < 0 or not 0 < greatest < math.inf:
        raise Unclear
    exponent = math.frexp(greatest)[1] - SCALE
    if abs(exponent) > 1000:
        raise Unclear
    return (factor * 2.0**-exponent).float(), exponent


@dataclass
class _Part:
    """Some rows of a layer.

    Attributes:
        scores: of the whole layer.
        rows: which ones.
        mask: of these rows, flattened.
        near: scores in float64 that :meth:`look` found between two values, of the error of float32.
        places: of these in ``mask``.
    """

    scores: _Products
    rows: slice
    mask: Any
    near: Any = None
    places: Any = None

    @property
    def first(self) -> int:
        """The place of the part's first element in the flattened weight."""
        return self.rows.start * self.scores.values.shape[1]

    @torch.no_grad()
    def look(self, low: float, high: float) -> int:
        """Mark the scores that reach ``low``, note those up to ``high``; return how many are marked.

        Raises:
            Unclear: ``low`` or a weight is out of float32's range in this layer.
        """
        exponent = self.scores.exponent
        least, most = _scaled(low, -exponent), _scaled(high, -exponent)
        if least < LEAST:
            raise Unclear
        values = self.scores.values[self.rows]
        if max(map(abs, map(float, values.aminmax()))) > GREATEST:
            raise Unclear
        products = torch.mm(self.scores.short_gradient[self.rows], self.scores.short_columns)
        found: Any = products.mul_(values).abs_().numpy().reshape(-1)
        np.greater_equal(found, _single(least), out=self.mask)
        within = found <= _single(most)
        within &= self.mask
        self.places = np.flatnonzero(within)
        self.near = np.ldexp(found[self.places].astype(np.float64), exponent)
        return int(np.count_nonzero(self.mask))

    def unmark(self, chosen: Any) -> None:
        """Unmark those ``chosen`` among the noted ones."""
        self.mask[self.places[chosen]] = False


def _scaled(value: float, exponent: int) -> float:
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _single(value: float) -> Any:
    with np.errstate(over="ignore"):
        return np.float32(value)


def _mark_highest(
    layers: Sequence[_Products], masks: Sequence[Any], k: int, alive: Sequence[Tensor], each: Map
) -> None:
    """Mark the ``k`` highest scores in ``masks``.

    Raises:
        Unclear: exact scores around the k-th highest are equal, or the sample misled.
    """
    share = k / count_kept({str(place): mask for place, mask in enumerate(alive)})
    sample = _sample(layers, alive)
    low, high = enclosing(sample, share, MARGINS[0])
    if not 0 < low < high:
        raise Unclear
    parts = [
        _Part(scores, rows, mask[rows].reshape(-1))
        for scores, mask in zip(layers, masks, strict=True)
        for rows in scores.parts()
    ]
    marked = sum(each(partial(_Part.look, low=float(low), high=float(high)), parts))
    near = np.concatenate([part.near for part in parts])
    number = marked - k  # of the noted ones, those that lose their mark
    if not 0 <= number < len(near):
        raise Unclear
    near.partition(number)
    threshold, error = near[number], max(scores.error for scores in layers)
    lowest, greatest = threshold * (1 - 3 * error), threshold * (1 + 3 * error)
    if lowest * (1 - error) <= low or greatest * (1 + error) >= high:
        raise Unclear
    _settle(parts, number, lowest, greatest, error)


def _settle(parts: Sequence[_Part], number: int, lowest: float, greatest: float, error: float) -> None:
    """Unmark the ``number`` lowest noted scores; those from ``lowest`` to ``greatest`` are computed."""
    undecided: dict[int, list[tuple[_Part, Any]]] = {}
    for part in parts:
        lower = part.near < lowest
        number -= int(np.count_nonzero(lower))
        part.unmark(lower)
        between = np.flatnonzero((part.near <= greatest) > lower)
        if len(between):
            undecided.setdefault(id(part.scores), []).append((part, between))
    exact, close = [], []
    for found in undecided.values():
        places = np.concatenate([part.places[chosen] + part.first for part, chosen in found])
        exact.append(found[0][0].scores.exact(places))
        close.append(np.concatenate([part.near[chosen] for part, chosen in found]))
    scores = np.concatenate(exact)
    if np.any(abs(scores / np.concatenate(close) - 1) > error):  # products were not computed in float32
        raise Unclear
    order = np.argsort(scores)
    if not 0 <= number <= len(order):
        raise Unclear
    if 0 < number < len(order) and scores[order[number]] <= scores[order[number - 1]] * (1 + EQUAL):
        raise Unclear
    lost = np.zeros(len(order), dtype=bool)
    lost[order[:number]] = True
    start = 0
    for part, chosen in (each for found in undecided.values() for each in found):
        part.unmark(chosen[lost[start : start + len(chosen)]])
        start += len(chosen)


def _sample(layers: Sequence[_Products], alive: Sequence[Tensor]) -> Any:
    """Return exact scores of candidates, one from each of many equal stretches.

    The places are drawn as in :mod:`prunelit.pruning.highest`, the same each time.
    """
    total = sum(scores.values.numel() for scores in layers)
    size = max(FEW, total // 1024)
    random = np.random.default_rng(0)
    found = []
    for scores, mask in zip(layers, alive, strict=True):
        length = scores.values.numel()
        number = math.ceil(size * length / total)
        places = ((np.arange(number) + random.random(number)) * (length / number)).astype(np.int64)
        places = places.clip(0, length - 1)
        if any(mask.stride()):
            places = places[mask.reshape(-1).numpy()[places]]
        found.append(scores.exact(places))
    return np.concatenate(found)
