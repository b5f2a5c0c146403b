"""Count the parameters and multiply-accumulates that remain when units are removed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_leaves

from prunelit.pruning.coupling.cut import positions_kept
from prunelit.pruning.coupling.groups import CoupledUnits
from prunelit.pruning.coupling.marked import Marked
from prunelit.pruning.product_macs import macs_of_attention, macs_of_einsum, macs_of_matmul

ADDED_PRODUCTS = ("aten.addmm", "aten.baddbmm")
PRODUCTS = (
    *ADDED_PRODUCTS,
    *("aten.linear", "aten.matmul", "aten.mm", "aten.bmm", "aten.mv", "aten.dot"),
    *("aten.einsum", "aten.scaled_dot_product_attention"),
)

INTERPOLATIONS = {"upsample_nearest2d": 1, "upsample_bilinear2d": 4}
"""Multiplications that make an element of an enlarged image."""


def parameters_and_macs_after(
    coupled: CoupledUnits, kept: Mapping[str, Tensor], sizes: Mapping[str, tuple[int, ...]]
) -> tuple[int, int]:
    """Return the parameters left, and the multiply-accumulates of one input.

    Counted are convolutions, linear layers, matrix products, einsum, fused attention, normalization and
    adaptive average pooling, as :func:`~prunelit.pruning.flops.count_flops` does; nothing is run.

    Args:
        coupled: the result of :func:`coupled_units`.
        kept: the units that stay, by the group's name; groups that are missing stay whole.
        sizes: the shapes of the network's parameters, by name.
    """
    left = {name: list(shape) for name, shape in sizes.items()}
    for (name, axis), stays in positions_kept(coupled, kept).items():
        if name in left:
            left[name][axis] = int(stays.sum())
    parameters = sum(math.prod(shape) for shape in left.values())
    total = 0
    for name, given, result in coupled.steps:
        once = isinstance(result, Marked) and result.is_weight  # whatever the size of the batch
        total += _macs(coupled, kept, name, given, result) * (coupled.batch if once else 1)
    return parameters, total // coupled.batch


def _macs(
    coupled: CoupledUnits, kept: Mapping[str, Tensor], name: str, given: tuple[Any, ...], result: Any
) -> int:
    """Return the multiply-accumulates of one operation."""
    arguments, keywords, _ = given
    operands = [a for a in tree_leaves((arguments, dict(keywords))) if isinstance(a, Marked)]

    def shape(tensor: Marked) -> list[int]:
        pairs = zip(tensor.shape, tensor.labels, strict=True)
        return [n if along is None else coupled.num_kept(along, kept) for n, along in pairs]

    if name.startswith("aten.conv") and isinstance(result, Marked):
        kernel = math.prod(shape(operands[1])[1:])
        return math.prod(shape(operands[0] if "transpose" in name else result)) * kernel
    if name in PRODUCTS and isinstance(result, Marked):
        return _of_product(name, arguments, operands, result, shape)
    if name == "aten.batch_norm":
        return (2 if len(operands) > 3 else 1) * math.prod(shape(operands[0]))
    if name in ("aten.layer_norm", "aten.group_norm", "aten.instance_norm"):
        return (5 if len(operands) > 1 else 4) * math.prod(shape(operands[0]))
    if name.startswith("aten.adaptive_avg_pool"):
        return math.prod(shape(operands[0]))
    if name.startswith("aten.upsample") and isinstance(result, Marked):
        return INTERPOLATIONS.get(name.removeprefix("aten."), 0) * math.prod(shape(result))
    return 0


def _of_product(name: str, arguments: Any, operands: list[Marked], result: Marked, shape: Any) -> int:
    """Return the multiply-accumulates of a matrix product, of einsum or of fused attention."""
    if name == "aten.einsum":
        return macs_of_einsum(arguments[0], [shape(operand) for operand in operands])
    if name == "aten.scaled_dot_product_attention":
        query, key, value = operands[:3]
        return macs_of_attention(shape(query), shape(key), shape(value), shape(result))
    first = operands[1] if name in ADDED_PRODUCTS else operands[0]
    return macs_of_matmul(shape(first), shape(result))
