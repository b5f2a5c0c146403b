"""Run networks with operations that have first and second derivatives."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
import torch.utils.checkpoint
from torch.nn.attention import SDPBackend, sdpa_kernel

RECOMPUTING = (
    "_checkpoint_without_reentrant_generator",
    "_checkpoint_without_reentrant_generator_impl",
)
"""What ``checkpoint`` calls with ``use_reentrant=False``, under the names of several versions of torch."""


@contextmanager
def differentiable() -> Iterator[None]:
    """Run everything inside the block by operations that have first and second derivatives.

    * Attention runs as matrix products and a softmax. The fused operations have no second derivative,
      and in eval mode ``nn.TransformerEncoderLayer`` runs as one operation without any gradient.
    * Activation checkpoints keep their activations instead: those with ``use_reentrant=True`` only
      ``backward`` can go through, and the others compute a second time with the parameters that the
      network has outside of ``functional_call``.
    * Modules and functions compiled by ``torch.compile`` run uncompiled.
    """
    fused = torch.backends.mha.get_fastpath_enabled()
    reentrant = torch.utils.checkpoint.CheckpointFunction
    recomputing = {name: getattr(torch.utils.checkpoint, name, None) for name in RECOMPUTING}
    with ExitStack() as stack:
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        if "torch._dynamo" in sys.modules:  # nothing is compiled before it is imported
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        torch.backends.mha.set_fastpath_enabled(False)
        torch.utils.checkpoint.CheckpointFunction = _KeepingActivations  # type: ignore[misc, assignment]
        for name in RECOMPUTING:
            setattr(torch.utils.checkpoint, name, _only_run)
        try:
            yield
        finally:
            torch.utils.checkpoint.CheckpointFunction = reentrant  # type: ignore[misc]
            for name, function in recomputing.items():
                setattr(torch.utils.checkpoint, name, function)
            torch.backends.mha.set_fastpath_enabled(fused)


class _KeepingActivations:
    """Replaces ``torch.utils.checkpoint.CheckpointFunction`` without saving memory."""

    @staticmethod
    def apply(run: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        return run(*args)


def _only_run(*_: Any, **__: Any) -> Iterator[None]:
    """Replace what ``torch.utils.checkpoint`` does around a call with ``use_reentrant=False``."""
    yield
