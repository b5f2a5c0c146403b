"""Ways around the time that Lightning spends in each training step, apart from the training itself.

Lightning calls about a dozen hooks of every callback in each step and enters a profiler's context about
fifty times. For a small network this takes longer than the computation. Each part of this file removes one
of these costs and changes no result. ``python benchmarks/lightning_overhead.py`` measures what each part
saves per step.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.profilers import PassThroughProfiler

F = TypeVar("F", bound=Callable[..., Any])


class NotCalledInSteps:
    """Base of callbacks with nothing to do within a step: Lightning skips hooks that are not callable."""

    on_before_zero_grad = on_before_backward = None
    on_after_backward = on_before_optimizer_step = None


class Checkpoint(NotCalledInSteps, ModelCheckpoint):  # type: ignore[misc]
    """A ``ModelCheckpoint`` that computes its state key once instead of at each hook.

    The name of the class is part of that key, so other names could not resume older checkpoints.

    Attributes:
        just_saved: the file that was written at the end of this epoch; None if it was not the best one.
    """

    just_saved: Path | None = None

    on_train_batch_start = None  # type: ignore[assignment]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save if the epoch is the best one."""
        before = _written(self.best_model_path)
        super().on_train_epoch_end(trainer, pl_module)
        after = _written(self.best_model_path)
        self.just_saved = Path(self.best_model_path) if after and after != before else None

    @cached_property
    def state_key(self) -> str:
        """The arguments that tell one callback from another."""
        return super().state_key


def _written(path: str) -> tuple[int, int] | None:
    """Return what differs for each file that is written to ``path``; None if there is no file."""
    if not os.path.isfile(path):
        return None
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns


class NoProfiler(PassThroughProfiler):
    """Measures nothing, with one context for all actions instead of a new generator for each."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        """Return a context that does nothing, always the same one."""
        return self.nothing


def with_signature(step: F) -> F:
    """Store the signature of a ``training_step``, which Lightning inspects in each step."""
    step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]
    return step


class QuickHookNames:
    """Base of modules that set the name of the running hook without ``nn.Module``'s checks.

    Lightning does so about fifty times per step.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute."""
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)


def forget_nvml_check() -> None:
    """Undo Lightning's choice to ask NVML for GPUs, on machines without one.

    PyTorch's fused optimizers would ask again in each step.
    """
    if not torch.cuda.is_available():
        os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)
