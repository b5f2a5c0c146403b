"""Distillation: the pruned network is trained to give the outputs of the dense one.

Hinton, Vinyals and Dean, Distilling the knowledge in a neural network, https://arxiv.org/abs/1503.02531
"""

from __future__ import annotations

from typing import Annotated, Any

import lightning.pytorch as pl
import torch
from annotated_types import Ge, Gt, Le
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional as F

from prunelit.declared import checked
from prunelit.pruning.coupling.trial import copied


def distillation_loss(logits: Tensor, of_teacher: Tensor, temperature: float) -> Tensor:
    """Return ``T^2 * KL(p || q)``, the mean over a batch.

    p and q are the softmax of the teacher's logits and of ``logits``, both divided by the temperature T. The
    factor keeps gradients as large as the gradients of the cross-entropy, for any T.

    Args:
        logits: of shape (n, classes).
        of_teacher: of the same shape.
        temperature: T.
    """
    own, others = (F.log_softmax(each / temperature, dim=1) for each in (logits, of_teacher))
    return temperature**2 * F.kl_div(own, others, reduction="batchmean", log_target=True)


class Distillation(Callback):
    """Keeps the network as it is before its first pruning, and gives the loss that compares with it.

    Use it with :class:`~prunelit.training.callback.Pruning`, and change the loss in ``training_step``:
    ``loss = distillation.loss(images, logits, loss)``. Before the first pruning the loss stays as it is. The
    teacher is part of every checkpoint, and works in evaluation mode.

    Args:
        weight: the share w of the distillation loss: ``(1 - w) * loss + w * distillation_loss``.
        temperature: T of :func:`distillation_loss`.

    Attributes:
        teacher: the network before the first pruning; None until then.
    """

    @checked
    def __init__(
        self,
        weight: Annotated[float, Ge(0), Le(1)] = 0.5,
        temperature: Annotated[float, Gt(0)] = 4.0,
    ) -> None:
        self.weight, self.temperature = weight, temperature
        self.teacher: nn.Module | None = None
        self._blank: nn.Module | None = None

    def loss(self, inputs: Tensor, logits: Tensor, loss: Tensor) -> Tensor:
        """Return the loss of a training batch, given the outputs of the pruned network and their own loss."""
        if self.teacher is None:
            return loss
        with torch.no_grad():
            of_teacher = self.teacher.to(inputs.device)(inputs)
        return (1 - self.weight) * loss + self.weight * distillation_loss(
            logits, of_teacher, self.temperature
        )

    def on_before_pruning(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Any) -> None:
        """Copy the network before its first pruning."""
        if self.teacher is None:
            self.teacher = _as_teacher(pruning.network(pl_module))

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keep a whole network, to which a checkpoint may give the weights of a teacher."""
        if stage == "fit":
            pruning = next((c for c in trainer.callbacks if hasattr(c, "network_name")), None)  # type: ignore[attr-defined]
            self._blank = None if pruning is None else _as_teacher(pruning.network(pl_module))

    def state_dict(self) -> dict[str, Any]:
        """Return the weights of the teacher."""
        return {"teacher": None if self.teacher is None else self.teacher.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the teacher; only a fit needs one."""
        if state_dict["teacher"] is not None and self._blank is not None:
            self._blank.load_state_dict(state_dict["teacher"])
            self.teacher = self._blank

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Release the copy that a checkpoint might have needed."""
        self._blank = None


def _as_teacher(network: nn.Module) -> nn.Module:
    return copied(network).eval().requires_grad_(False)
