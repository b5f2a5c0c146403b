"""Operations that compute each element from the elements at the same position, with broadcasting."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from prunelit.pruning.coupling.ledger import Labels
from prunelit.pruning.coupling.marked import Marked, Step
from prunelit.pruning.coupling.rules import rule

TRIAL = (-3.2, -1.1, -0.4, 0.3, 0.9, 2.7)
"""Values that represent elements of which nothing is known."""


@rule("hardswish", "relu6", "log_sigmoid", "copy_", "fill_", "floor_divide", "where", "rrelu", "softplus")
@rule("leaky_relu")  # torch 2.11 does not mark it
def elementwise(step: Step, *arguments: Any, **keywords: Any) -> Marked:
    """Tie the labels of all operands along each axis along which they extend."""
    operands = [a for a in (*arguments, *keywords.values()) if isinstance(a, Marked)]
    labels, zero = broadcast(step, operands)
    for axis, along in enumerate(labels):
        if along is not None:
            back = axis - len(labels)
            silent = [-back <= o.ndim and o.shape[back] > 1 and o.zero[back] for o in operands]
            zero[axis] = any(silent) and _gives_zero(step.function, arguments, keywords, tuple(silent))
    weights = bool(operands) and all(operand.is_weight for operand in operands)
    return Marked(step.shape, tuple(labels), tuple(zero), weights)


def broadcast(step: Step, operands: list[Marked]) -> tuple[list[Labels], list[bool]]:
    """Return the labels of the result of broadcasting operands."""
    rank = len(step.shape)
    labels: list[Labels] = [None] * rank
    for axis in range(rank):
        back = axis - rank
        along = [o.labels[back] for o in operands if -back <= o.ndim and o.shape[back] > 1]
        if along:
            labels[axis] = along[0]
            for other in along[1:]:
                labels[axis] = step.ledger.tie(labels[axis], other, step.why("its terms have to fit"))
    return labels, [False] * rank


def _gives_zero(
    function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], silent: tuple[bool, ...]
) -> bool:
    """Return whether the results are 0 where the operands marked in ``silent`` are."""
    plain = [_Operand if isinstance(a, Marked) else _hashable(a) for a in arguments]
    named = tuple((key, _Operand if isinstance(a, Marked) else _hashable(a)) for key, a in keywords.items())
    try:
        return _tried(function, tuple(plain), named, silent)
    except Exception:  # an operation that takes no such operands, or arguments that are not hashable
        return False


class _Operand:
    """Stands for a tensor among the arguments."""


def _hashable(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


@lru_cache(maxsize=4096)
def _tried(function: Any, plain: tuple[Any, ...], named: tuple[Any, ...], silent: tuple[bool, ...]) -> bool:
    marks = iter(silent)

    def value(given: Any) -> Any:
        if given is not _Operand:
            return given
        return torch.zeros(len(TRIAL)) if next(marks) else torch.tensor(TRIAL)

    result = function(*[value(a) for a in plain], **{key: value(a) for key, a in named})
    return isinstance(result, Tensor) and not bool(result.ne(0).any())


@rule("to", "_to_copy", "clone", "contiguous", "detach", "detach_", "alias", "lift_fresh_copy", "lift_fresh")
@rule("dropout", "dropout_", "feature_dropout", "feature_dropout_", "type_as", "float", "half", "conj")
@rule("resolve_conj", "resolve_neg", "zero_", "requires_grad_")
def same(step: Step, operand: Marked, *others: Any, **keywords: Any) -> Marked:
    """Pass on the labels."""
    return operand


@rule("masked_fill", "masked_fill_")
def masked_fill(step: Step, operand: Marked, mask: Marked, value: Any) -> Marked:
    """Pass on the labels; elements that are filled with 0 stay 0."""
    labels, zero = broadcast(step, [operand, mask])
    keeps = isinstance(value, int | float) and value == 0
    back = [axis - len(labels) for axis in range(len(labels))]
    zero = [keeps and -b <= operand.ndim and operand.zero[b] for b in back]
    return Marked(step.shape, tuple(labels), tuple(zero))


@rule("prelu", "_prelu_kernel")
def prelu(step: Step, operand: Marked, slopes: Marked) -> Marked:
    """Tie a channel to its slope."""
    if slopes.ndim == 0 or (slopes.shape[-1] == 1 and slopes.ndim == 1):
        return operand
    axis = 1 if slopes.ndim == 1 else next(i for i, n in enumerate(slopes.shape) if n > 1)
    along = slopes.labels[0] if slopes.ndim == 1 else slopes.labels[axis]
    step.ledger.idle(along)
    labels = step.ledger.tie(operand.labels[axis], along, step.why("a slope for each channel"))
    return operand.with_axis(axis, labels, operand.zero[axis])


@rule("zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like")
def filled_like(step: Step, operand: Marked, *others: Any, **keywords: Any) -> Marked:
    """Follow the operand's sizes."""
    is_zero = step.operation.endswith("zeros_like")
    return Marked(operand.shape, operand.labels, (is_zero,) * operand.ndim)
