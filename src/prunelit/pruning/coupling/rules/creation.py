"""Operations that make tensors of numbers, and checks that make none."""

from __future__ import annotations

from typing import Any

from prunelit.pruning.coupling.marked import Marked, Step
from prunelit.pruning.coupling.rules import rule


@rule("zeros", "ones", "full", "empty", "arange", "linspace", "rand", "randn", "eye", "scalar_tensor")
@rule("new_zeros", "new_ones", "new_full", "new_empty", "tensor", "empty_strided", "randint", "bernoulli")
@rule("empty_permuted", "new_empty_strided")
def created(step: Step, *arguments: Any, **keywords: Any) -> Marked:
    """Return a tensor whose positions all stay, because its sizes are written in the code."""
    return Marked.plain(step.shape)


@rule("_assert_tensor_metadata", "_assert_async", "_assert_scalar", "sym_size", "sym_constrain_range")
def nothing(step: Step, *arguments: Any, **keywords: Any) -> None:
    """Check something."""
