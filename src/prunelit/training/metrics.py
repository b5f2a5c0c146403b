"""Loss and accuracies of a classifier over an epoch, in one cheap update a batch."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class Totals(Metric):
    """Sums over images: loss, top-1 hits, top-5 hits, count; summed over ranks.

    With fewer than five classes top 5 means the best of all classes, which is always a hit.
    """

    full_state_update = False
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        # float64 counts exactly and adds losses without drift.
        self.add_state("sums", torch.zeros(4, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: mean ``loss``, ``logits`` of shape (n, classes), ``labels`` of shape (n,)."""
        hits = logits.topk(min(5, logits.shape[1])).indices.eq(labels[:, None])
        n = len(labels)
        self.sums += torch.stack(
            [loss.double() * n, hits[:, 0].sum().double(), hits.sum().double(), loss.new_tensor(n).double()]
        )

    def compute(self) -> dict[str, float]:
        """Return mean ``loss``, ``top1`` and ``top5`` in percent; NaN without images."""
        loss, top1, top5, count = self.sums.tolist()
        if not count:
            return dict.fromkeys(("loss", "top1", "top5"), float("nan"))
        return {"loss": loss / count, "top1": 100 * top1 / count, "top5": 100 * top5 / count}
