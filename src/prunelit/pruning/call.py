"""One call of a network: its positional and keyword arguments, and the same for a single sample."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from prunelit.pruning.nested import map_tensors, rows_of, tensors_in
from prunelit.pruning.preserve import modes


@dataclass(frozen=True)
class Call:
    """The arguments of one call of a network: ``call.run(network)`` is ``network(*inputs, **keywords)``."""

    inputs: tuple[Any, ...] = ()
    keywords: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, example: Any) -> Call:
        """Return ``example`` if it is a call, else the call with this input or tuple of inputs."""
        if isinstance(example, Call):
            return example
        return cls(example if isinstance(example, tuple) else (example,))

    def run(self, network: Callable[..., Any]) -> Any:
        """Call ``network``."""
        return network(*self.inputs, **self.keywords)

    def tensors(self) -> list[Tensor]:
        """Return all tensors among the arguments."""
        return tensors_in((self.inputs, dict(self.keywords)))

    def map(self, function: Callable[[Tensor], Any]) -> Call:
        """Return the call with ``function(tensor)`` in the place of each tensor."""
        inputs, keywords = map_tensors(function, (self.inputs, dict(self.keywords)))
        return Call(inputs, keywords)

    def one_sample(self, network: nn.Module) -> Call:
        """Return the call on the first sample alone.

        Which arguments hold samples along axis 0 cannot be seen from shapes: a mask of attention of
        8 x 8 in a batch of 8 does not. The network is run in eval mode, and those arguments are cut
        with which it returns the first rows of what it returns for the whole batch. Where no choice
        of arguments does, the batch stays whole.
        """
        size = num_samples((self.inputs, dict(self.keywords)))
        sampled = [index for index, t in enumerate(self._parts()) if _length(t) == size]
        if size == 1 or not sampled:
            return self
        with modes(network), torch.no_grad():
            network.eval()
            if size > 2 and len(self._parts()) == 1:  # two samples tell as much as all of them, and sooner
                two = self._cut({0}, 2)
                with suppress(Exception):
                    one = two._cut({0})
                    if _are_first_rows(tensors_in(one.run(network)), tensors_in(two.run(network)), 2):
                        return one
            try:
                whole = tensors_in(self.run(network))
            except Exception:  # such as inputs in another precision: nothing to compare with
                return self._cut(set(sampled))
            for chosen in _subsets(sampled):
                cut = self._cut(chosen)
                try:
                    found = tensors_in(cut.run(network))
                except Exception:
                    continue
                if _are_first_rows(found, whole, size):
                    return cut
        return self

    def _parts(self) -> list[Any]:
        found: list[Any] = []
        _map_parts(lambda part: found.append(part), (self.inputs, dict(self.keywords)))
        return found

    def _cut(self, chosen: set[int], size: int = 1) -> Call:
        """Return the call on the first ``size`` samples of the ``chosen`` arguments."""
        places = iter(range(len(self._parts())))

        def cut(part: Any) -> Any:
            return first_rows(part, slice(0, size)) if next(places) in chosen else part

        inputs, keywords = _map_parts(cut, (self.inputs, dict(self.keywords)))
        return Call(inputs, keywords)


def num_samples(batch: Any) -> int:
    """Return the length of axis 0 of the first tensor in ``batch``, 1 if there is none."""
    lengths: list[int] = []
    _map_parts(lambda part: lengths.append(_length(part)), batch)
    return next((length for length in lengths if length >= 0), 1)


def cut_batch(batch: Any, size: int, rows: slice) -> Any:
    """Return some rows of each tensor of ``batch`` that has ``size`` of them; the others stay whole."""
    return _map_parts(lambda part: first_rows(part, rows) if _length(part) == size else part, batch)


def first_rows(part: Any, rows: slice) -> Any:
    """Return some rows of a tensor or some sequences of a packed sequence."""
    return rows_of(part, rows) if isinstance(part, PackedSequence) else part[rows]


def _map_parts(function: Callable[[Any], Any], value: Any) -> Any:
    """Map tensors and packed sequences, each of which holds several tensors that belong together."""
    if isinstance(value, PackedSequence):
        return function(value)
    if type(value) in (tuple, list):
        return type(value)(_map_parts(function, each) for each in value)
    if type(value) is dict:
        return {key: _map_parts(function, each) for key, each in value.items()}
    return map_tensors(function, value)


def _length(part: Any) -> int:
    """Return the length of axis 0; -1 for a tensor without axes."""
    if isinstance(part, PackedSequence):
        return int(part.batch_sizes[0])
    return len(part) if part.ndim else -1


def _subsets(places: list[int]) -> Iterator[set[int]]:
    """Yield all of ``places``, then all but one, and so on; of many, only the most likely choices."""
    if len(places) > 5:
        yield from ({*places}, *({*places} - {left} for left in places), {places[0]})
        return
    for count in range(len(places), 0, -1):
        yield from map(set, combinations(places, count))


def _are_first_rows(found: list[Tensor], whole: list[Tensor], size: int) -> bool:
    """Return whether outputs of one sample are the first rows of the outputs of ``size`` samples."""
    if len(found) != len(whole):
        return False
    for one, many in zip(found, whole, strict=True):
        if many.ndim and len(many) == size and many.shape != one.shape:
            first = many[:1] if one.ndim == many.ndim else many[0]
            if first.shape != one.shape or not _close(first, one):
                return False
        elif many.shape != one.shape:
            return False
    return True


def _close(first: Tensor, second: Tensor) -> bool:
    if not first.is_floating_point():
        return True
    first, second = first.double(), second.double()
    scale = float(first[first.isfinite()].abs().max()) if first.isfinite().any() else 0.0
    return torch.allclose(first, second, rtol=1e-2, atol=1e-2 * scale, equal_nan=True)
