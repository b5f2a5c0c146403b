"""Call the hooks that callbacks define for pruning."""

from __future__ import annotations

from typing import Any

import lightning.pytorch as pl


def notify(trainer: pl.Trainer, hook: str, *arguments: Any) -> None:
    """Call the method ``hook`` of every callback that has it, with the trainer and ``arguments``."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        method = getattr(callback, hook, None)
        if method is not None:
            method(trainer, *arguments)
