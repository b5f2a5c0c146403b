"""Loss and accuracies of a classifier over an epoch, with one cheap update per batch."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torchmetrics import Metric

SUMS = ("loss", "hits", "count")


class Totals(Metric):
    """Sums over images: loss, top-1 hits, top-5 hits, count; summed over ranks.

    With fewer than five classes top 5 means the best of all classes, which is always a hit.
    """

    full_state_update = False
    loss: Tensor
    hits: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        # float64 sums losses without drift.
        self.add_state("loss", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        # How often the best, second best, … fifth best class is correct.
        self.add_state("hits", torch.zeros(5, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add one batch: mean ``loss``, ``logits`` of shape (n, classes), ``labels`` of shape (n,)."""
        n, classes = logits.shape
        best = logits.topk(min(5, classes)).indices
        # add_, not +=: an assignment to a module's attribute takes longer than the addition.
        self.hits[: best.shape[1]].add_(best.eq(labels[:, None]).sum(0))
        self.loss.add_(loss, alpha=n)
        self.count.add_(n)

    def add(self, loss: Tensor, hits: Tensor, count: int) -> None:
        """Add sums over several batches: of the ``loss`` times its images, of ``hits``, and of images."""
        self.loss.add_(loss)
        self.hits.add_(hits)
        self.count.add_(count)
        self._update_count += 1
        self._computed = None

    def compute(self) -> dict[str, float]:
        """Return mean ``loss``, ``top1`` and ``top5`` in percent; NaN without images."""
        return self.so_far()

    def sums(self) -> dict[str, Tensor]:
        """Return a copy of the sums over all ranks, for a checkpoint within an epoch."""
        with self.sync_context():
            return {name: getattr(self, name).detach().cpu().clone() for name in SUMS}

    def restore(self, sums: Mapping[str, Tensor]) -> None:
        """Restore ``sums``."""
        for name in SUMS:
            setattr(self, name, sums[name].to(self.device).clone())

    def so_far(self) -> dict[str, float]:
        """Return what ``compute`` does, for this process only and without synchronization."""
        count, hits = int(self.count), self.hits.tolist()
        if not count:
            return dict.fromkeys(("loss", "top1", "top5"), float("nan"))
        return {
            "loss": float(self.loss) / count,
            "top1": 100 * hits[0] / count,
            "top5": 100 * sum(hits) / count,
        }
