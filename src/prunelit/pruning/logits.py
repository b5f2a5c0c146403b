"""Find the logits of a loss: what enters the softmax, or the like, that the loss is computed from."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from prunelit.request import BadRequest

Node = Any
"""A node of autograd's graph."""

SOFTMAX: set[Callable[..., Any]] = {
    *(F.cross_entropy, F.log_softmax, F.softmax, torch.log_softmax, torch.softmax),
    *(torch.special.log_softmax, torch.special.softmax, Tensor.log_softmax, Tensor.softmax),
}
ELEMENTWISE: set[Callable[..., Any]] = {F.mse_loss, F.binary_cross_entropy_with_logits}
"""Losses that take each element of the network's output by itself."""

RESHAPING = {"T", "Transpose", "Permute", "View", "UnsafeView", "Expand", "Unsqueeze", "Squeeze", "ToCopy"}
"""Operations that may be applied to a parameter before its use, by the names of their nodes."""

WEIGHTING = {"Add", "Sub", "Mul", "Div"}
"""Operations element by element, by the names of their nodes; operations of layers are listed elsewhere."""


@dataclass(frozen=True)
class Logits:
    """What one call of a function took.

    Attributes:
        tensor: the logits, with a graph to the parameters.
        axis: along which the softmax is taken; None: each element is independent.
        place: of the call among all that the loss made.
    """

    tensor: Tensor
    axis: int | None
    place: int


class LogitsCalls(TorchFunctionMode):
    """Notes the calls of ``functions`` while it is active, and changes what those at ``chosen`` places take.

    Args:
        functions: of torch, whose first argument holds logits.
        change: maps the logits to what the function takes instead; None: they stay.
        chosen: which calls are changed; None: all whose logits require a gradient.
    """

    def __init__(
        self,
        functions: Collection[Callable[..., Any]],
        change: Callable[[Tensor], Tensor] | None = None,
        chosen: Collection[int] | None = None,
    ) -> None:
        super().__init__()
        self.functions, self.change, self.chosen = functions, change, chosen
        self.calls: list[tuple[Logits, Node]] = []
        self.changed: list[int] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func not in self.functions:
            return func(*args, **kwargs)
        place = len(self.calls)
        logits = kwargs["input"] if "input" in kwargs else args[0]
        wanted = logits.requires_grad if self.chosen is None else place in self.chosen
        if self.change is not None and wanted:
            self.changed.append(place)
            changed = self.change(logits)
            if "input" in kwargs:
                kwargs["input"] = changed
            else:
                args = (changed, *args[1:])
        result = func(*args, **kwargs)
        self.calls.append((Logits(logits, _axis(func, logits, args, kwargs), place), result.grad_fn))
        return result

    def last(self, loss: Tensor) -> list[Logits]:
        """Return the logits that no layer with parameters comes after, on the way to ``loss``."""
        reached = _reached(loss)
        return [logits for logits, node in self.calls if node is not None and node in reached]


def tempered(loss: Callable[[Any], Tensor], batch: Any, temperature: float) -> Tensor:
    """Return ``loss(batch)`` with its logits divided by ``temperature``.

    Logits are what the loss takes a softmax or a cross-entropy of. Other softmaxes, such as the softmax of an
    attention within the network, are not divided.

    Raises:
        BadRequest: the loss takes no softmax of what the network computes.
    """
    if temperature == 1:
        return loss(batch)
    with LogitsCalls(SOFTMAX, lambda logits: logits / temperature) as calls:
        value = loss(batch)
    last = [logits.place for logits in calls.last(value)]
    if not last:
        raise BadRequest(
            "temperature",
            temperature,
            "1, by GraSP(temperature=1) in code or pruner.criterion.temperature=1 on the command line",
            "there are no logits to divide, because the loss applies no softmax or cross_entropy to the "
            "outputs",
        )
    if last != calls.changed:
        with LogitsCalls(SOFTMAX, lambda logits: logits / temperature, last):
            value = loss(batch)
    return value


def _axis(func: Any, logits: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int | None:
    if func in ELEMENTWISE:
        return None
    if func is F.cross_entropy:
        return 1 if logits.ndim > 1 else 0
    axis = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return axis if isinstance(axis, int) else logits.ndim - 1


def _reached(loss: Tensor) -> set[Node]:
    """Return the nodes that lead to ``loss``, back to those in which parameters take part."""
    waiting: list[Node] = [] if loss.grad_fn is None else [loss.grad_fn]
    found: set[Node] = set(waiting)
    while waiting:
        node = waiting.pop()
        sources = [source for source, _ in node.next_functions if source is not None]
        # Losses that are weighted by learned numbers are losses still.
        if any(map(_is_parameter, sources)) and _name(node) not in WEIGHTING:
            continue
        new = [source for source in sources if source not in found]
        found.update(new)
        waiting += new
    return found


def _name(node: Node) -> str:
    return type(node).__name__.rstrip("0123456789").removesuffix("Backward")


def _is_parameter(node: Node) -> bool:
    """Return whether a node gives a parameter, as it is or reshaped."""
    while type(node).__name__ != "AccumulateGrad":
        sources = [source for source, _ in node.next_functions if source is not None]
        if _name(node) not in RESHAPING or len(sources) != 1:
            return False
        (node,) = sources
    return True


def depends_otherwise(loss: Tensor, logits: Tensor) -> bool:
    """Return whether ``loss`` depends on a leaf that requires a gradient by a way past ``logits``."""
    waiting: list[Node] = [] if loss.grad_fn is None else [loss.grad_fn]
    found: set[Node] = set(waiting)
    while waiting:
        node = waiting.pop()
        if node is logits.grad_fn:
            continue
        if type(node).__name__ == "AccumulateGrad":
            return True
        new = [source for source, _ in node.next_functions if source is not None and source not in found]
        found.update(new)
        waiting += new
    return False
