"""Rounds that keep the highest scores of a flow and need no score afterwards.

Absolute values of the weights in float64 stay in memory from round to round, and pruned ones are 0. A round
computes the factors of the scores (see :class:`prunelit.pruning.scored_layers.Weight`). The thresholds of
earlier rounds, or a sample of scores, give two values that the k-th highest score almost certainly lies
between. All scores are then computed, a part of a weight at a time in the processor's cache, but not kept.
Values whose score is too low become 0, and scores between the two values are noted. One of these is the k-th
highest. Where anything is unclear, such as equal scores at the threshold, the rounds before are done again,
and the round is left to the caller, who computes all scores.
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

from prunelit.pruning import loops
from prunelit.pruning.call import Call
from prunelit.pruning.flow import NoFlow
from prunelit.pruning.flow_scores import absolute_values, total_flow
from prunelit.pruning.highest import FEW, MARGINS, enclosing
from prunelit.pruning.masks import Masks, Scores, count_all, count_kept
from prunelit.pruning.parameters import Parameters
from prunelit.pruning.score_pieces import Memory, places_of_few
from prunelit.pruning.scored_layers import OutOfSight, Part, ScoredLayers, Weight
from prunelit.pruning.threads import Map, threads

FEWEST = 2**20
"""Number of weights below which computing all scores takes no longer."""

EQUAL = 1e-12
"""Relative difference of scores up to which rounding may have exchanged them."""

LEAST = 2.0**-1000
"""Least score that is kept."""


class Unclear(Exception):
    """The highest scores cannot be told in this way."""


def keep_highest_of_flow(
    network: nn.Module,
    parameters: Parameters,
    example: Call,
    biases: bool,
    numbers: Sequence[int],
    alive: Masks,
    extrapolate: bool = True,
) -> tuple[Masks, Scores, int]:
    """Keep the highest scores of :func:`prunelit.pruning.flow_scores.flow_scores`, round after round.

    Args:
        network: in the modes in which it is to run.
        parameters: what is scored. What ``alive`` does not keep is 0.
        example: the arguments of one call, for one sample.
        biases: whether biases that are not among ``parameters`` count.
        numbers: how many are kept after each round, at least 1, each at most the one before it.
        alive: what competes.
        extrapolate: whether thresholds may be expected from those of earlier rounds.

    Returns:
        The masks after the rounds that could be done, memory for scores, and how many rounds those are.
    """
    if count_all(parameters) < FEWEST or not all(map(_is_suitable, parameters.values())):
        return alive, {}, 0
    values, thresholds = absolute_values(parameters, {}), _Thresholds(extrapolate)
    if not all(math.isfinite(value.sum()) for value in values.values()):
        return alive, values, 0
    left = count_kept(alive)
    for done, number in enumerate(numbers):
        if number == left:
            continue
        try:
            layers = ScoredLayers(values, keep_factors=True)
            total, factor = total_flow(layers, network, parameters, example, biases)
            weights = layers.factors(total, factor)
            _keep_highest(weights, number, left, thresholds, float(total.detach() * factor))
        except (OutOfSight, Unclear, NoFlow, RuntimeError):  # if the reason lies elsewhere, it comes again
            if thresholds.were_expected:
                return keep_highest_of_flow(network, parameters, example, biases, numbers, alive, False)
            if not done:
                return alive, {}, 0
            return keep_highest_of_flow(network, parameters, example, biases, numbers[:done], alive, False)
        left = number
    if left == count_kept(alive):
        return alive, values, len(numbers)
    # The scores of what is kept are above 0, so that its values are too.
    return {name: value != 0 for name, value in values.items()}, values, len(numbers)


def _is_suitable(parameter: Tensor) -> bool:
    return parameter.device.type == "cpu" and parameter.ndim > 1


class _Thresholds:
    """Thresholds of earlier rounds as shares of the flow, which change smoothly from round to round.

    Attributes:
        were_expected: whether one was ever expected between two values.
    """

    def __init__(self, extrapolate: bool) -> None:
        self.were_expected = False
        self._extrapolate = extrapolate
        self._logarithms: list[float] = []
        self._errors: list[float] = []

    def next_between(self) -> tuple[float, float] | None:
        """Return two values that the next one is expected between; None where that is not known well.

        The lower one is chosen with more care, as values are lost where it is too high.
        """
        margin = 4 * max(self._errors[-4:]) if len(self._errors) > 3 else math.inf
        if not (self._extrapolate and margin < 0.02):
            return None
        self.were_expected = True
        expected = self._expected()
        return math.exp(expected - 4 * margin), math.exp(expected + margin)

    def note(self, threshold: float) -> None:
        """Note that of a round."""
        new = math.log(threshold) if 0 < threshold < math.inf else math.nan
        if len(self._logarithms) > 2:
            self._errors.append(abs(new - self._expected()))
        self._logarithms.append(new)

    def _expected(self) -> float:
        """Return the value of the parabola through the last three logarithms at the next place."""
        third, second, last = self._logarithms[-3:]
        return 3 * (last - second) + third


@dataclass
class _Part:
    """Some scores of a weight.

    Attributes:
        weight: which one.
        part: which of its values, by group.
        near: scores between two values.
        places: of these in the part.
    """

    weight: Weight
    part: Part
    near: Any = None
    places: Any = None

    @torch.no_grad()
    def look(self, low: float, high: float, memory: Memory) -> int:
        """Set the values to 0 whose scores do not reach ``low``; note the scores from there to ``high``.

        Returns:
            how many scores reach ``low``.
        """
        values = self._values()
        scratch, places = memory.of(np.float64, 2 * len(values)), memory.of(np.int32, len(values))
        scores, near = scratch[: len(values)], scratch[len(values) :]
        self.weight.derivatives(self.part, torch.from_numpy(scores))
        keep_reaching = loops.keep_reaching if loops.available() else keep_reaching_by_operations
        number, picked = keep_reaching(scores, values, low, high, near, places)
        self.near, self.places = near[:picked].copy(), places[:picked].copy()
        return number

    def clear(self, threshold: float) -> None:
        """Set the values to 0 whose noted scores are below ``threshold``."""
        self._values()[self.places[self.near < threshold]] = 0

    def _values(self) -> Any:
        return self.weight.by_group(self.weight.values)[self.part].reshape(-1).numpy()


def keep_reaching_by_operations(
    derivatives: Any, values: Any, low: float, high: float, near: Any, places: Any
) -> tuple[int, int]:
    """Do the work of :func:`prunelit.pruning.loops.keep_reaching` by operations on arrays."""
    scores = torch.from_numpy(derivatives).mul_(torch.from_numpy(values))
    # As numbers, which takes a fraction of the time that masked_fill_ does.
    torch.from_numpy(values).mul_(torch.ge(scores, low, out=torch.from_numpy(near)))
    reached = derivatives >= low
    number = int(np.count_nonzero(reached))
    reached &= derivatives < high
    found = places_of_few(reached)
    near[: len(found)], places[: len(found)] = derivatives[found], found
    return number, len(found)


@torch.no_grad()
def _keep_highest(
    weights: Sequence[Weight], k: int, competing: int, thresholds: _Thresholds, total: float
) -> None:
    """Set all values to 0 but those with the ``k`` highest scores.

    Args:
        weights: have the factors of their scores.
        k: fewer than ``competing``.
        competing: how many values are not 0.
        thresholds: of earlier rounds; that of this one is added.
        total: the flow, which the scores of each layer add up to.

    Raises:
        Unclear: scores around the k-th highest are equal, or it is not where it was expected. The values are
            lost then.
        OutOfSight: the factors would take more memory than the scores.
    """
    factors = [factor for weight in weights for pair in weight.factors for factor in pair]
    if sum(factor.numel() for factor in factors) > sum(weight.values.numel() for weight in weights):
        raise OutOfSight
    if not all(math.isfinite(factor.sum()) for factor in factors):
        raise Unclear
    parts = [_Part(weight, part) for weight in weights for part in weight.parts()]
    with threads(len(parts)) as each:
        number, near = 0, np.empty(0)
        if expected := thresholds.next_between():
            low, high = (value * total for value in expected)
            number, near = _look(parts, low, high, k, each)
            competing = k + number  # the others were below ``low``, and are 0 now
        if number >= len(near):
            low, high = map(float, enclosing(_sample(weights), k / competing, MARGINS[0]))
            number, near = _look(parts, low, high, k, each)
        if not 0 <= number < len(near):
            raise Unclear
        near.partition((number - 1, number) if number else 0)
        threshold, below = near[number], near[number - 1] if number else 0.0
        if not below < threshold * (1 - EQUAL):
            raise Unclear
        for part in parts:
            part.clear(threshold)
    thresholds.note(float(threshold) / total)


def _look(parts: Sequence[_Part], low: float, high: float, k: int, each: Map) -> tuple[int, Any]:
    """Set the values to 0 whose scores do not reach ``low``.

    Returns:
        how many more than ``k`` reach it, and the scores from there to ``high``.
    """
    low = max(low, LEAST)
    if not low < high:
        raise Unclear
    marked = sum(each(partial(_Part.look, low=low, high=high, memory=Memory()), parts))
    return marked - k, np.concatenate([part.near for part in parts])


def _sample(weights: Sequence[Weight]) -> Any:
    """Return scores of candidates, one from each of many equal stretches of the weights.

    The places are drawn as in :mod:`prunelit.pruning.highest`, the same each time.
    """
    total = sum(weight.values.numel() for weight in weights)
    size = max(FEW, total // 1024)
    random = np.random.default_rng(0)
    found = []
    for weight in weights:
        values = weight.values.view(-1)
        number = math.ceil(size * len(values) / total)
        places = ((np.arange(number) + random.random(number)) * (len(values) / number)).astype(np.int64)
        chosen = torch.from_numpy(places.clip(0, len(values) - 1))
        found.append(weight.scores_at(chosen[values[chosen] != 0]).numpy())
    return np.concatenate(found)
