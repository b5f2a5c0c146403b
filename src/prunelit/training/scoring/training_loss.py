"""The loss that a LightningModule trains by, as a function of one batch."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.signature_utils import is_param_in_hook_signature
from torch import Tensor

from prunelit.pruning.objective import Batch
from prunelit.training.scoring.batch_transfer import copied


def reads_iterator(pl_module: pl.LightningModule) -> bool:
    """Return whether the module takes Lightning's ``dataloader_iter``, and so moves batches itself."""
    step = pl_module.training_step
    return not hasattr(pl_module, "pruning_loss") and is_param_in_hook_signature(
        step, "dataloader_iter", explicit=True
    )


def training_step(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Callable[[Batch], Any]:
    """Return a function that runs the training step of one batch, as Lightning runs it.

    The step gets the arguments that Lightning gives it, each time a copy of the batch, in the context of
    the trainer's precision.
    """

    def run(batch: Batch) -> Any:
        step = pl_module.training_step
        arguments: list[Any] = [copied(batch)]
        if reads_iterator(pl_module):
            arguments = [iter([(arguments[0], 0, 0)])]
        elif is_param_in_hook_signature(step, "batch_idx", min_args=2):
            arguments.append(0)
        with trainer.precision_plugin.train_step_context(), _nothing_printed():
            return step(*arguments)

    return run


def training_loss(trainer: pl.Trainer, pl_module: pl.LightningModule) -> Callable[[Batch], Tensor]:
    """Return the module's mean loss of one batch: its ``pruning_loss(batch)``, or its ``training_step``.

    A batch that the training step skips, by returning None, has the loss 0 and no gradient.

    Raises:
        ValueError: the module uses manual optimization, so that its training step gives no loss.
    """
    own: Callable[[Batch], Tensor] | None = getattr(pl_module, "pruning_loss", None)
    name = type(pl_module).__name__
    if own is None and not pl_module.automatic_optimization:
        raise ValueError(
            f"{name} uses manual optimization, so pruning finds no loss: define a method "
            f"pruning_loss(batch) that returns the mean loss of a batch"
        )
    step = training_step(trainer, pl_module)

    def loss_of_step(batch: Batch) -> Tensor:
        output = step(batch)
        if output is None:
            return torch.zeros((), device=pl_module.device, requires_grad=True)
        value = output.get("loss") if isinstance(output, Mapping) else output
        if not isinstance(value, Tensor) or not value.requires_grad:
            raise ValueError(
                f"{name}.training_step returns no differentiable loss: define a method "
                f"pruning_loss(batch) that returns the mean loss of a batch"
            )
        return value.mean()

    def own_loss(batch: Batch) -> Tensor:
        assert own is not None
        with trainer.precision_plugin.train_step_context(), _nothing_printed():
            return own(copied(batch))

    return loss_of_step if own is None else own_loss


@contextmanager
def _nothing_printed() -> Iterator[None]:
    """Let ``print`` without a file do nothing; debuggers, which name theirs, go on to work."""
    original = builtins.print

    def print_to_files(*values: Any, file: Any = None, **options: Any) -> None:
        if file is not None:
            original(*values, file=file, **options)

    builtins.print = print_to_files
    try:
        yield
    finally:
        builtins.print = original
