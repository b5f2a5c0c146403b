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
from typing import Any, TypeVar

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
    """

    on_train_batch_start = None  # type: ignore[assignment]

    @cached_property
    def state_key(self) -> str:
        """The arguments that tell one callback from another."""
        return super().state_key


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
