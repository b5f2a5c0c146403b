"""Find the call of the network within one training step of any LightningModule."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import lightning.pytorch as pl
from torch import nn

from prunelit.pruning.call import Call
from prunelit.pruning.objective import Batch
from prunelit.pruning.preserve import preserved


class _Found(BaseException):
    """Ends a training step whose further course does not matter."""


def network_call(
    pl_module: pl.LightningModule, root: nn.Module, step: Callable[[Batch], Any], batch: Batch
) -> Call:
    """Return the call, within one training step, that runs all of ``root``: ``step(batch)`` does the step.

    The step ends there, before a module that optimises by hand can move a weight.

    That is the first call of ``root``, or of a module in it that holds all its parameters; the
    ``forward`` of ``root`` is then pointed at that one, and :func:`undisturbed` undoes this.

    Raises:
        ValueError: no single call covers all parameters.
    """
    needed = {id(p) for p in root.parameters()}
    calls: list[tuple[nn.Module, Call]] = []

    def note(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if not calls and needed <= {id(p) for p in module.parameters()}:
            calls.append((module, Call(args, kwargs).map(lambda tensor: tensor.detach().clone())))
            raise _Found

    handles = [m.register_forward_pre_hook(note, with_kwargs=True) for m in root.modules()]
    try:
        with preserved(root), suppress(_Found):
            step(batch)
    finally:
        for handle in handles:
            handle.remove()
    if not calls:
        raise ValueError(
            f"no single call in {type(pl_module).__name__}.training_step uses all of its parameters: "
            "name the part to prune with Pruning(..., network='name_of_submodule')"
        )
    entry, call = calls[0]
    if entry is not root:
        root.__dict__["forward"] = entry.forward
    return call
