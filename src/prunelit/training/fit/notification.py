"""Notify callbacks of a pruning through their hooks, and the user through warnings of one rank."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl

from prunelit.request import PruningWarning


def notify(trainer: pl.Trainer, hook: str, *arguments: Any) -> None:
    """Call the method ``hook`` of every callback that has it, with the trainer and ``arguments``."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        method = getattr(callback, hook, None)
        if method is not None:
            method(trainer, *arguments)


@contextmanager
def first_rank_alone_warns(trainer: pl.Trainer) -> Iterator[None]:
    """Suppress the warnings of pruning in the block on all ranks except the first."""
    if trainer.is_global_zero:
        yield
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PruningWarning)
        yield
