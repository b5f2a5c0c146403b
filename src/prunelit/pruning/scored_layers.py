"""Linear layers and convolutions of the flow as matrix products, which also give the scores.

The score of a weight is its absolute value times the derivative of the flow. For a layer that derivative is
a product of two small matrices: the gradient of the layer's output, and what each output position sees.
Autograd would compute it for a whole weight and keep it. Here the two matrices are kept, and their product is
computed for a part of a weight at a time, which fits into the processor's cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

from prunelit.pruning.masks import Scores
from prunelit.pruning.nested import tensors_in
from prunelit.pruning.unfolded import Unfolded, of_convolution, of_linear

PART = 2**18
"""Elements of a weight that are in use at a time."""

LAYERS: dict[Callable[..., Any], Callable[..., tuple[Tensor, Tensor, Tensor | None, Unfolded]]] = {
    F.linear: of_linear,
    F.conv1d: of_convolution,
    F.conv2d: of_convolution,
    F.conv3d: of_convolution,
}

PROPERTIES: set[Callable[..., Any]] = {
    *(Tensor.size, Tensor.dim, Tensor.numel, Tensor.is_floating_point, Tensor.is_complex),
    *(getattr(Tensor, name).__get__ for name in ("shape", "dtype", "device", "ndim", "requires_grad")),
}
"""What may be asked of a stand-in without its values."""


Part = tuple[slice, slice]
"""A range of groups, and of rows where there is a single group."""


@dataclass
class Weight:
    """A weight of the flow.

    Attributes:
        values: its absolute values in float64, contiguous.
        uses: how many layers use it.
        leaf: the same values for autograd, where something other than a layer uses them.
        factors: of each layer, the gradient of its product, (groups, rows, M), and what each output position
            sees, (groups, inputs, M), with M the number of positions.
        scored: whether the scores have been written over the values.
    """

    values: Tensor
    uses: int = 0
    leaf: Tensor | None = None
    factors: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    scored: bool = False

    def real(self) -> Tensor:
        """Return the values for autograd."""
        if self.leaf is None:
            self.leaf = self.values.detach().requires_grad_()
        return self.leaf

    def by_group(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the weight's shape as (groups, rows, inputs)."""
        groups = len(self.factors[0][0])
        return tensor.view(groups, len(tensor) // groups, -1)

    def times(self, columns: Tensor) -> Tensor:
        """Return the product with ``columns``, (groups, inputs, M), as (all rows, M)."""
        self.uses += 1
        groups = len(columns)
        if groups == 1:
            return self.values.flatten(1) @ columns[0]
        return (self.values.view(groups, len(self.values) // groups, -1) @ columns).flatten(0, 1)

    def passed_on(self, gradient: Tensor) -> Tensor:
        """Return the gradient of the columns from that of the product, (groups, rows, M)."""
        groups, _, positions = gradient.shape
        turned = self.values.view(groups, len(self.values) // groups, -1).mT
        found = gradient.new_zeros(groups, turned.shape[1], positions)
        for chosen, rows in parts_of(turned.mT):
            found[chosen].baddbmm_(turned[chosen, :, rows], gradient[chosen, rows])
        return found

    def parts(self) -> list[Part]:
        """Return parts of the values by group that fit into the processor's cache."""
        return parts_of(self.by_group(self.values))

    def derivatives(self, part: Part, memory: Tensor) -> Tensor:
        """Return the sum of the products of the factors for a part of the values by group, in ``memory``."""
        found: Tensor | None = None
        for gradient, columns in self.factors:
            left, right = gradient[part], columns[part[0]].mT
            if found is None:
                found = memory[: left.shape[0] * left.shape[1] * right.shape[2]].view(*left.shape[:2], -1)
                if len(left) == 1:
                    torch.mm(left[0], right[0], out=found[0])
                else:
                    torch.bmm(left, right, out=found)
            else:
                found.baddbmm_(left, right)
        assert found is not None
        return found

    def scores_at(self, places: Tensor) -> Tensor:
        """Return the scores at ``places`` of the flattened values, as far as layers give them."""
        inputs = self.values[0].numel()
        rows, places_seen = places // inputs, places % inputs
        groups = rows // (len(self.values) // len(self.factors[0][0]))
        sums = [(g.flatten(0, 1)[rows] * c[groups, places_seen]).sum(1) for g, c in self.factors]
        return torch.stack(sums).sum(0).mul_(self.values.view(-1)[places])

    @torch.no_grad()
    def write_scores(self, gradient: Tensor | None) -> None:
        """Write scores over the values, which layers and ``gradient``, that of autograd, give together."""
        self.scored = True
        if len({len(found) for found, _ in self.factors}) > 1:
            raise OutOfSight  # layers that share the weight divide it into different groups
        if not self.factors:
            self.values.zero_() if gradient is None else self.values.mul_(gradient)
            return
        values, memory = self.by_group(self.values), part_memory([self])
        further = None if gradient is None else self.by_group(gradient.contiguous())
        for part in self.parts():
            found = self.derivatives(part, memory)
            values[part].mul_(found if further is None else found.add_(further[part]))
        self.factors.clear()


def parts_of(values: Tensor) -> list[Part]:
    """Return parts of ``values``, (groups, rows, inputs), of about ``PART`` elements: rows, or whole
    groups."""
    groups, rows, inputs = values.shape
    everything = slice(None)
    if groups == 1:
        return [(everything, chosen) for chosen in _ranges(rows, PART // max(1, inputs))]
    return [(chosen, everything) for chosen in _ranges(groups, PART // max(1, rows * inputs))]


def _ranges(number: int, step: int) -> list[slice]:
    step = max(1, step)
    return [slice(start, min(start + step, number)) for start in range(0, number, step)]


def part_memory(weights: Iterable[Weight]) -> Tensor:
    """Return memory for the greatest part of any of ``weights``, which have factors."""
    firsts = [weight.by_group(weight.values)[weight.parts()[0]] for weight in weights]
    return torch.empty(max(map(Tensor.numel, firsts)), dtype=torch.float64)


class _Product(torch.autograd.Function):
    """A layer without its bias."""

    @staticmethod
    def forward(
        ctx: Any, signal: Tensor, stand_in: Tensor, weight: Weight, unfolded: Unfolded, layers: ScoredLayers
    ) -> Tensor:
        columns = unfolded.columns(signal)
        ctx.save_for_backward(signal)
        ctx.columns = columns if columns.numel() <= weight.values.numel() else None
        ctx.weight, ctx.unfolded, ctx.layers = weight, unfolded, layers
        with torch.no_grad():
            return unfolded.output(weight.times(columns))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (signal,) = ctx.saved_tensors
        columns = ctx.unfolded.columns(signal) if ctx.columns is None else ctx.columns
        product = ctx.unfolded.product(gradient)
        found = ctx.layers.score(ctx.weight, product, columns.detach(), ctx.needs_input_grad[0])
        return None if found is None else ctx.unfolded.signal(found), None, None, None, None


class OutOfSight(Exception):
    """A stand-in was used in a way that :class:`ScoredLayers` does not see."""


class ScoredLayers(TorchFunctionMode):
    """Computes layers by products that give scores, where stand-ins take the place of their weights.

    Whatever else uses a weight gets its absolute values in float64, so that autograd gives their gradient.

    Args:
        values: absolute values of what is scored in float64, contiguous, by name. :meth:`backward` writes
            the scores over them.
        stand_in: whether stand-ins take the place of weights; otherwise all is left to autograd.
        keep_factors: whether :meth:`factors` is going to be called, and not :meth:`backward`.

    Attributes:
        tensors: what to run the network with, by name. Stand-ins hold NaN: where one is used out of sight
            of this mode, the flow is NaN.
    """

    def __init__(self, values: Scores, stand_in: bool = True, keep_factors: bool = False) -> None:
        super().__init__()
        self.keep_factors = keep_factors
        self.tensors: dict[str, Tensor] = {}
        self._weights = [Weight(value) for value in values.values()]
        self._stood_for: dict[int, Weight] = {}
        for name, weight in zip(values, self._weights, strict=True):
            if stand_in and weight.values.ndim > 1 and not name.endswith("bias"):
                nan = torch.full((), torch.nan, dtype=torch.float64, device=weight.values.device)
                self.tensors[name] = nan.expand(weight.values.shape).requires_grad_()
                self._stood_for[id(self.tensors[name])] = weight
            else:
                self.tensors[name] = weight.real()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in LAYERS:
            signal, stand_in, bias, unfolded = LAYERS[func](*args, **kwargs)
            weight = self._stood_for.get(id(stand_in))
            if weight is not None and signal.dtype == torch.float64:
                product: Tensor = _Product.apply(signal, stand_in, weight, unfolded, self)
                return product if bias is None else product + unfolded.bias(bias)
        if func not in PROPERTIES and any(id(t) in self._stood_for for t in tensors_in((args, kwargs))):
            args, kwargs = tree_map_only(Tensor, self._real, (args, kwargs))
        return func(*args, **kwargs)

    def _real(self, tensor: Tensor) -> Tensor:
        weight = self._stood_for.get(id(tensor))
        return tensor if weight is None else weight.real()

    def score(self, weight: Weight, gradient: Tensor, columns: Tensor, further: bool) -> Tensor | None:
        """Take the gradient of a layer's product, (all rows, M); return that of the columns if it goes on."""
        gradient = gradient.detach().reshape(len(columns), -1, columns.shape[-1])
        found = weight.passed_on(gradient) if further else None
        weight.factors.append((gradient, columns))
        if not (self.keep_factors or weight.uses > 1 or weight.leaf is not None):
            weight.write_scores(None)
        return found

    def backward(self, total: Tensor, factor: Tensor) -> list[Tensor | None]:
        """Write the scores that ``factor * total`` gives; return the gradients that autograd gave.

        Raises:
            OutOfSight: the scores cannot be relied on.
        """
        used = [weight for weight in self._weights if weight.leaf is not None]
        gradients = self._differentiate(total, factor, used)
        by_autograd = {id(weight): gradient for weight, gradient in zip(used, gradients, strict=True)}
        for weight in self._weights:
            if not weight.scored:
                weight.write_scores(by_autograd.get(id(weight)))
        return gradients

    def factors(self, total: Tensor, factor: Tensor) -> list[Weight]:
        """Return the weights with the factors of their scores for ``factor * total``.

        Raises:
            OutOfSight: the scores of some weight are not such products.
        """
        self._differentiate(total, factor, [])
        if any(w.leaf is not None or len({len(g) for g, _ in w.factors}) != 1 for w in self._weights):
            raise OutOfSight
        return self._weights

    def _differentiate(self, total: Tensor, factor: Tensor, used: list[Weight]) -> list[Tensor | None]:
        """Run the backward pass; return the gradients of what autograd itself uses."""
        stand_ins = [tensor for tensor in self.tensors.values() if id(tensor) in self._stood_for]
        leaves = [*stand_ins, *(weight.real() for weight in used)]
        gradients = torch.autograd.grad(total, leaves, factor, allow_unused=True)
        seen = any(gradient is not None for gradient in gradients[: len(stand_ins)])
        if seen or (stand_ins and total.isnan()):
            raise OutOfSight
        return list(gradients[len(stand_ins) :])
