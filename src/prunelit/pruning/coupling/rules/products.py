"""Sums of products: linear layers, matrix products and attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prunelit.pruning.coupling.ledger import Labels
from prunelit.pruning.coupling.marked import Marked, Step
from prunelit.pruning.coupling.rules import rule
from prunelit.pruning.product_macs import axes_of_term

Letters = Sequence[Any]
"""A name for each axis; axes with the same name must have the same size."""


def product(step: Step, operands: Sequence[tuple[Marked, Letters]], result: Letters) -> Marked:
    """Follow a sum of products: axes that ``result`` leaves out are summed over."""
    labels: dict[Any, Labels] = {}
    zero: dict[Any, bool] = {}
    weights: dict[Any, Labels] = {}
    weighted: dict[Any, bool] = {}
    for operand, letters in operands:
        for axis, letter in enumerate(letters):
            along = operand.labels[axis]
            if operand.shape[axis] == 1 and letter in result:
                continue
            if operand.is_weight:
                weights.setdefault(letter, along)
                weighted[letter] = weighted.get(letter, False) or operand.zero[axis]
            if letter not in labels:
                labels[letter] = along
            else:
                labels[letter] = step.ledger.tie(labels[letter], along, step.why("its factors have to fit"))
            if not operand.is_weight or letter in result:
                zero[letter] = zero.get(letter, False) or operand.zero[axis]
    for letter, along in labels.items():
        if letter not in result:
            step.ledger.contract(
                along,
                weights.get(letter),
                silent=zero.get(letter, False),
                weighted=weighted.get(letter, False),
                reason=step.why("what is removed would have to be 0 there, and is not"),
            )
    is_weight = all(operand.is_weight for operand, _ in operands)
    return Marked(
        step.shape,
        tuple(labels.get(letter) for letter in result),
        tuple(zero.get(letter, False) for letter in result),
        is_weight,
    )


def add_bias(step: Step, result: Marked, bias: Marked | None, axis: int) -> Marked:
    """Follow the addition of one number for each position along ``axis``."""
    if bias is None:
        return result
    labels, zero = result.labels[axis], result.zero[axis]
    if bias.shape and bias.shape[-1] > 1:
        labels = step.ledger.tie(labels, bias.labels[-1], step.why("a bias for each unit"))
        zero = zero and bias.zero[-1]
    axis %= result.ndim
    flags = tuple(zero if i == axis else False for i in range(result.ndim))
    return Marked(
        result.shape,
        tuple(labels if i == axis else each for i, each in enumerate(result.labels)),
        flags,
        result.is_weight and bias.is_weight,
    )


@rule("linear")
def linear(step: Step, x: Marked, weight: Marked, bias: Marked | None = None) -> Marked:
    """y = x W^T + b."""
    lead: list[Any] = [("batch", i) for i in range(x.ndim - 1)]
    outputs: list[Any] = ["out"] if weight.ndim == 2 else []
    result = product(step, [(x, [*lead, "in"]), (weight, [*outputs, "in"])], [*lead, *outputs])
    return add_bias(step, result, bias, -1) if outputs else result


@rule("matmul", "mm", "bmm", "mv", "dot")
def matmul(step: Step, first: Marked, second: Marked) -> Marked:
    """Products of matrices, the axes before them broadcast."""
    rank = max(first.ndim, second.ndim) - 2

    def lead(operand: Marked) -> list[Any]:
        return [("batch", rank - (operand.ndim - 2) + i) for i in range(max(operand.ndim - 2, 0))]

    left: list[Any] = [*lead(first), "row", "in"] if first.ndim > 1 else ["in"]
    right: list[Any] = [*lead(second), "in", "column"] if second.ndim > 1 else ["in"]
    result: list[Any] = [("batch", i) for i in range(max(rank, 0))]
    result += ["row"] if first.ndim > 1 else []
    result += ["column"] if second.ndim > 1 else []
    return product(step, [(first, left), (second, right)], result)


@rule("addmm", "baddbmm")
def addmm(step: Step, bias: Marked, first: Marked, second: Marked, **scales: Any) -> Marked:
    """A bias and a product of matrices."""
    return add_bias(step, matmul(step, first, second), bias, -1)


@rule("einsum")
def einsum(step: Step, equation: str, operands: Sequence[Marked], **keywords: Any) -> Marked:
    """Sums of products, given by an equation."""
    terms, _, result = equation.replace(" ", "").partition("->")
    named: list[list[Any]] = []
    for term, operand in zip(terms.split(","), operands, strict=True):
        named.append(axes_of_term(term, operand.ndim))
    if "->" not in equation:
        counted = [letter for letters in named for letter in letters]
        result = "".join(sorted(c for c in set(counted) if counted.count(c) == 1))
    return product(step, list(zip(operands, named, strict=True)), axes_of_term(result, len(step.shape)))


@rule("scaled_dot_product_attention")
def attention(
    step: Step,
    query: Marked,
    key: Marked,
    value: Marked,
    attn_mask: Marked | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Marked:
    """softmax(q k^T / sqrt(width)) v."""
    lead = [("batch", i) for i in range(query.ndim - 2)]
    if enable_gqa:
        for operand in (query, key, value):
            for along in operand.labels[:-2]:
                step.ledger.hold(along, step.why("queries share keys"))
    if scale is None:
        why = step.why("the scale of attention depends on the width of a head")
        step.ledger.mix(query.labels[-1], why)
    step.ledger.mix(key.labels[-2], step.why("softmax is taken over it"))
    weights_shape = (*query.shape[:-1], key.shape[-2])
    scoring = Step(
        step.ledger, step.operation, step.modules, (weights_shape,), None, step.literals, step.heads
    )
    weights = product(scoring, [(query, [*lead, "q", "in"]), (key, [*lead, "k", "in"])], [*lead, "q", "k"])
    if attn_mask is not None:
        from prunelit.pruning.coupling.rules.elementwise import broadcast

        labels, _ = broadcast(scoring, [weights, attn_mask])
        weights = Marked(weights.shape, tuple(labels), (False,) * weights.ndim)
    weights = Marked(weights.shape, weights.labels, (False,) * weights.ndim)
    return product(step, [(weights, [*lead, "q", "k"]), (value, [*lead, "k", "out"])], [*lead, "q", "out"])
