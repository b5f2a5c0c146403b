"""The scan of a list of thresholds: what each would leave of the network before the pruning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from prunelit.pruning.earlier_masks import starting_masks
from prunelit.pruning.masks import Masks, apply_masks, count_all, count_kept
from prunelit.training.callback import Pruning
from prunelit.training.measuring.evaluation import evaluate_test

Row = dict[str, Any]


class ThresholdScan:
    """Evaluates each threshold of a list on the network before the pruning; without a list it does nothing.

    Attributes:
        rows: rows of ``thresholds.csv``: the result of each threshold.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._values: dict[str, Tensor] = {}
        self._masks: Masks = {}

    def state_dict(self) -> dict[str, Any]:
        """Return the rows so far."""
        return {"thresholds": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of a checkpoint."""
        self.rows = state_dict["thresholds"]

    def before(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning, epoch: int
    ) -> None:
        """Copy the whole network, because rewinding, for example, also changes biases and statistics."""
        if pruning.thresholds:
            network = pruning.network(pl_module)
            self._values = {name: t.detach().clone() for name, t in tensors_of(network).items()}
            self._masks = starting_masks(network, pruning.selection.of(network))

    def after(self, trainer: pl.Trainer, pl_module: pl.LightningModule, pruning: Pruning, epoch: int) -> None:
        """Add the row of each threshold, from the scores of the pruning."""
        for threshold in pruning.thresholds:
            assert pruning.outcome is not None
            plan = replace(pruning.plan, threshold=threshold)
            masks = plan.masks(pruning.outcome.scores, None, self._masks)
            with pruning.without_masks():
                row = evaluate_masks(trainer, pl_module, pruning.network(pl_module), self._values, masks)
            self.rows.append({"threshold": threshold, **row})
        self._values, self._masks = {}, {}


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """Return all parameters and buffers of ``network`` by name: the tensors themselves, not copies."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


@torch.no_grad()
def evaluate_masks(
    trainer: pl.Trainer,
    pl_module: pl.LightningModule,
    network: nn.Module,
    values: dict[str, Tensor],
    masks: Masks,
) -> dict[str, Any]:
    """Return sparsity, removed parameters by tensor and test accuracies of ``values`` under ``masks``.

    Args:
        trainer: of ``pl_module``.
        pl_module: the classifier.
        network: its part that ``masks`` belong to; it is not changed.
        values: of all parameters and buffers of ``network``, by the names of :func:`tensors_of`.
        masks: of its prunable parameters.
    """
    tensors = tensors_of(network)
    held = {name: tensor.clone() for name, tensor in tensors.items()}
    try:
        for name, value in values.items():
            tensors[name].copy_(value)
        apply_masks(dict(network.named_parameters(remove_duplicate=False)), masks)
        tested = evaluate_test(trainer, pl_module)
    finally:
        for name, value in held.items():
            tensors[name].copy_(value)
    return {
        "sparsity": 1 - count_kept(masks) / count_all(masks),
        **{f"removed/{name}": int((~mask).sum()) for name, mask in masks.items()},
        "top1": tested.top1 if tested else None,
        "top5": tested.top5 if tested else None,
    }
