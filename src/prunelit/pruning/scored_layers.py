"""Linear layers and convolutions of the flow as matrix products whose backward pass writes scores.

Autograd would keep a float64 copy of each weight, compute a gradient as large, and multiply the two. Here a
weight is read as it is, a few rows at a time. While these rows lie in the processor's cache as absolute
values in float64, they take part in all products, and their scores are written at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
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
from prunelit.pruning.threads import Map
from prunelit.pruning.unfolded import Unfolded, of_convolution, of_linear

ROWS = 2**17
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


@dataclass
class _Weight:
    """A weight and where its scores go.

    Attributes:
        values: the weight, in any precision.
        scores: in float64, contiguous; None where :attr:`factors` are kept instead.
        memory: of each thread, where it puts absolute values of any weight.
        written: whether a layer that uses the weight has written its scores.
        copy: its absolute values in float64, where something other than a layer uses them.
        factors: of each layer that uses the weight, the gradient of its product, (rows, M), and its columns.
    """

    values: Tensor
    scores: Tensor | None
    memory: threading.local
    written: bool = False
    copy: Tensor | None = None
    factors: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    def real(self) -> Tensor:
        """Return absolute values for autograd."""
        if self.copy is None:
            self.copy = self.values.double().abs_().requires_grad_()
        return self.copy

    def times(self, columns: Tensor, each: Map) -> Tensor:
        """Return the product of absolute values, (groups, rows, K), with ``columns``, (groups, K, M)."""
        groups, _, width = columns.shape
        if self.scores is None and groups > 1:
            raise OutOfSight
        product = columns.new_empty(len(self.values), width)

        @torch.no_grad()
        def multiply(part: slice) -> None:
            rows = self._rows(part)
            if groups == 1:
                torch.mm(rows, columns[0], out=product[part])
            else:
                chosen, by_group = self._groups(part, groups)
                torch.bmm(by_group(rows), columns[chosen], out=by_group(product[part]))

        for _ in each(multiply, self._parts(groups)):
            pass
        return product

    def score(self, gradient: Tensor, columns: Tensor, further: bool, each: Map) -> Tensor | None:
        """Write scores from the gradient of the product; return that of ``columns`` if it goes further."""
        if self.scores is None:
            self.factors.append((gradient.detach(), columns.detach()))
            return self._passed_on(gradient, columns, each) if further else None
        groups = len(columns)
        flat = self.scores.view(len(self.values), -1)
        turned = columns.mT.contiguous()
        written, self.written = self.written, True

        @torch.no_grad()
        def write(part: slice) -> Tensor | None:
            rows, outer, found = self._rows(part), gradient[part], None
            target = torch.empty_like(rows) if written else flat[part]
            if groups == 1:
                torch.mm(outer, turned[0], out=target)
                found = (rows.T @ outer)[None] if further else None
            else:
                chosen, by_group = self._groups(part, groups)
                torch.bmm(by_group(outer), turned[chosen], out=by_group(target))
                found = torch.bmm(by_group(rows).mT, by_group(outer)) if further else None
            target.mul_(rows)
            if written:
                flat[part].add_(target)
            return found

        return self._sum(each(write, self._parts(groups)), columns)

    def _passed_on(self, gradient: Tensor, columns: Tensor, each: Map) -> Tensor:
        """Return the gradient of the columns of a layer without groups."""
        flat, total = self.values.flatten(1), torch.empty_like(columns)
        step = max(1, ROWS // len(flat))

        @torch.no_grad()
        def pass_on(start: int) -> None:
            inputs = slice(start, start + step)
            torch.mm(self._absolute(flat[:, inputs]).T, gradient, out=total[0, inputs])

        for _ in each(pass_on, range(0, flat.shape[1], step)):
            pass
        return total

    def _sum(self, parts: Iterable[Tensor | None], columns: Tensor) -> Tensor | None:
        """Add up what the parts of the rows give to the gradient of ``columns``; None if they give nothing.

        The parts are added in their own order, so that the sum is the same whichever thread computed them.
        """
        groups, total = len(columns), None
        for part, found in zip(self._parts(groups), parts, strict=True):
            if found is None:
                continue
            if len(found) == groups and total is None:
                total = found
                continue
            if total is None:
                total = torch.zeros_like(columns)
            total[self._groups(part, groups)[0]].add_(found)
        return total

    def _parts(self, groups: int) -> list[slice]:
        """Return ranges of rows, each of whole groups if there are several."""
        size = len(self.values)
        step = max(1, ROWS * size // self.values.numel())
        if groups > 1:
            num_rows = size // groups
            step = max(1, step // num_rows) * num_rows
        return [slice(start, min(start + step, size)) for start in range(0, size, step)]

    def _rows(self, part: slice) -> Tensor:
        """Return absolute values of some rows, as a matrix."""
        return self._absolute(self.values[part]).flatten(1)

    def _absolute(self, rows: Tensor) -> Tensor:
        """Return absolute values in the memory that this thread uses for all of them."""
        memory: Tensor | None = getattr(self.memory, "rows", None)
        if memory is None or memory.numel() < rows.numel() or memory.device != rows.device:
            memory = self.memory.rows = torch.empty(rows.numel(), dtype=torch.float64, device=rows.device)
        return memory[: rows.numel()].view(rows.shape).copy_(rows).abs_()

    def _groups(self, part: slice, groups: int) -> tuple[slice, Callable[[Tensor], Tensor]]:
        """Return the groups of a range of rows, and what gives rows an axis of groups."""
        if groups == 1:
            return slice(None), lambda rows: rows[None]
        num_rows = len(self.values) // groups
        chosen = slice(part.start // num_rows, part.stop // num_rows)
        return chosen, lambda rows: rows.unflatten(0, (-1, num_rows))


class _Product(torch.autograd.Function):
    """A layer without its bias."""

    @staticmethod
    def forward(
        ctx: Any, signal: Tensor, stand_in: Tensor, weight: _Weight, unfolded: Unfolded, each: Map
    ) -> Tensor:
        ctx.save_for_backward(signal)
        ctx.weight, ctx.unfolded, ctx.each = weight, unfolded, each
        return unfolded.output(weight.times(unfolded.columns(signal), each))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (signal,) = ctx.saved_tensors
        columns = ctx.unfolded.columns(signal)
        product = ctx.unfolded.product(gradient)
        found = ctx.weight.score(product, columns, ctx.needs_input_grad[0], ctx.each)
        return None if found is None else ctx.unfolded.signal(found), None, None, None, None


class OutOfSight(Exception):
    """A stand-in was used in a way that :class:`ScoredLayers` does not see."""


class ScoredLayers(TorchFunctionMode):
    """Computes layers by products that write scores, where stand-ins take the place of their weights.

    Whatever else uses a weight gets its absolute values in float64, so that autograd gives their gradient.

    Args:
        parameters: what is scored, by name.
        scores: tensors in float64 by name, contiguous, which are written over. None: they are not computed,
            and :meth:`factors` gives what they are products of.
        each: shares the parts of a layer out to threads.
        stand_in: whether stand-ins take the place of weights; otherwise all is left to autograd.

    Attributes:
        tensors: what to run the network with, by name. Stand-ins hold NaN: where one is used out of sight
            of this mode, the flow is NaN.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], scores: Scores | None, each: Map = map, stand_in: bool = True
    ) -> None:
        super().__init__()
        self._each = each
        self.tensors: dict[str, Tensor] = {}
        memory = threading.local()
        self._weights = [
            _Weight(p.detach(), None if scores is None else scores[name], memory)
            for name, p in parameters.items()
        ]
        self._stood_for: dict[int, _Weight] = {}
        for name, weight in zip(parameters, self._weights, strict=True):
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
                product: Tensor = _Product.apply(signal, stand_in, weight, unfolded, self._each)
                return product if bias is None else product + unfolded.bias(bias)
        if func not in PROPERTIES and any(id(t) in self._stood_for for t in tensors_in((args, kwargs))):
            args, kwargs = tree_map_only(Tensor, self._real, (args, kwargs))
        return func(*args, **kwargs)

    def _real(self, tensor: Tensor) -> Tensor:
        weight = self._stood_for.get(id(tensor))
        return tensor if weight is None else weight.real()

    def backward(self, total: Tensor, factor: Tensor) -> list[Tensor | None]:
        """Write the scores that ``factor * total`` gives; return the gradients that autograd gave.

        Raises:
            OutOfSight: the scores cannot be relied on.
        """
        copied = [weight for weight in self._weights if weight.copy is not None]
        gradients = self._differentiate(total, factor, copied)
        for weight in self._weights:
            assert weight.scores is not None
            if not weight.written:
                weight.scores.zero_()
        for weight, gradient in zip(copied, gradients, strict=True):
            if gradient is not None and weight.scores is not None:
                weight.scores.addcmul_(gradient, weight.real().detach())
        return gradients

    def factors(self, total: Tensor, factor: Tensor) -> list[list[tuple[Tensor, Tensor]]]:
        """Return the factors of each parameter's scores for ``factor * total``: gradients and columns.

        The scores are ``|w|`` times the sum of their products.

        Raises:
            OutOfSight: the scores of some parameter are not such products.
        """
        self._differentiate(total, factor, [])
        if any(weight.copy is not None or not weight.factors for weight in self._weights):
            raise OutOfSight
        return [weight.factors for weight in self._weights]

    def _differentiate(self, total: Tensor, factor: Tensor, copied: list[_Weight]) -> list[Tensor | None]:
        """Run the backward pass; return the gradients of those that were copied for autograd."""
        stand_ins = [tensor for tensor in self.tensors.values() if id(tensor) in self._stood_for]
        leaves = [*stand_ins, *(weight.real() for weight in copied)]
        gradients = torch.autograd.grad(total, leaves, factor, allow_unused=True)
        used = any(gradient is not None for gradient in gradients[: len(stand_ins)])
        if used or (stand_ins and total.isnan()):
            raise OutOfSight
        return list(gradients[len(stand_ins) :])
